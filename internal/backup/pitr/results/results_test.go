package results

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
)

// TestOneOfEach: what reports count is said as English has it, of one and of none.
func TestOneOfEach(t *testing.T) {
	one := Backup{ID: "b", Documents: 1, Entries: 1, Kind: string(chain.Full)}
	none := Backup{ID: "b", Kind: string(chain.Full)}
	type report interface{ Text(io.Writer) }
	text := func(r report) string {
		var b strings.Builder
		r.Text(&b)
		return b.String()
	}
	for name, c := range map[string]struct {
		one, none report
		want      string // in one
	}{
		"plan":    {&Plan{Full: one, Pieces: 1, Documents: 1, Entries: 1, Collections: []Collection{{"a.b", "a.b", 1, 1}}}, &Plan{Full: none, Collections: []Collection{{"a.b", "a.b", 0, 0}}}, "1 entry to read"},
		"restore": {&Restore{Documents: 1, Entries: 1, Applied: 1, Indexes: 1}, &Restore{}, "1 document; 1 oplog entry read, 1 operation applied; 1 index; "},
		"compare": {&Restore{Verified: &Comparison{Collections: 1, Documents: 1, Source: 1}}, &Restore{Verified: &Comparison{}}, "1 document with its last entry"},
		"drill":   {&Drill{Documents: 1, Entries: 1}, &Drill{}, "1 document, 1 oplog entry"},
		"full":    {&Full{Backup: one, Collections: 1}, &Full{Backup: none}, "1 document of 1 collection"},
		"incr":    {&Incr{Slices: []Backup{one}, Entries: 1}, &Incr{Slices: []Backup{}}, "1 entry (0 B) in 1 slice"},
		"run":     {&Run{Slices: 1, Entries: 1, Fulls: 1, Requests: 1, Retries: 1}, &Run{}, "1 full backup; 1 store request"},
		"search":  {&Searched{Entries: 1, Changes: 1}, &Searched{}, "1 change in 1 entry"},
		"status":  {&Status{Backups: 1, Drill: &pitr.DrillRecord{Documents: 1}}, &Status{Drill: &pitr.DrillRecord{}}, "1 document in 0 s"},
		"verify":  {&Verify{Backups: 1, Objects: 1, Packs: 1, PacksRead: 1, Entries: 1, Documents: 1}, &Verify{}, "1 entry and 1 document counted"},
		"prune":   {&Prune{Sweep: repo.SweepStats{Deleted: 1, Repacked: 1}, Decisions: []Decision{{Keep: true}}}, &Prune{}, "1 backup kept"},
	} {
		t.Run(name, func(t *testing.T) {
			one, none := text(c.one), text(c.none)
			if !strings.Contains(one, c.want) {
				t.Errorf("%q is not in %q", c.want, one)
			}
			if m := regexp.MustCompile(`\b1 (documents|entries|slices|collections|indexes|operations|oplog entries|backups|full backups|packs|objects|store requests|retries|changes|of these packs are)\b`).FindString(one); m != "" {
				t.Errorf("%q in %q", m, one)
			}
			if m := regexp.MustCompile(`\b0 (document|entry|slice|collection|index|operation|oplog entry|backup|full backup|pack|object|store request|retry|change)\b`).FindString(none); m != "" {
				t.Errorf("%q in %q", m, none)
			}
		})
	}
}
