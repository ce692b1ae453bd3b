package tool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/tag"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

// strictJSON turns the shell's way of writing an object ({mode: 'nearest'}) into JSON:
// bare keys and single-quoted strings get double quotes.
func strictJSON(in string) []byte {
	var out bytes.Buffer
	for i := 0; i < len(in); {
		c := in[i]
		switch {
		case c == '"' || c == '\'':
			j := i + 1
			for j < len(in) && in[j] != c {
				if in[j] == '\\' {
					j++
				}
				j++
			}
			j = min(j, len(in))
			body := in[i+1 : j]
			if c == '\'' {
				body = strings.ReplaceAll(strings.ReplaceAll(body, `\'`, `'`), `"`, `\"`)
			}
			out.WriteByte('"')
			out.WriteString(body)
			if j < len(in) {
				out.WriteByte('"')
			}
			i = j + 1
		case isWord(c):
			j := i
			for j < len(in) && isWord(in[j]) {
				j++
			}
			word := in[i:j]
			i = j
			if rest := strings.TrimLeft(in[j:], " \t\r\n"); strings.HasPrefix(rest, ":") {
				word = strconv.Quote(word)
			}
			out.WriteString(word)
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.Bytes()
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c == '.' || c == '-' || c == '+' ||
		c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// ReadPreference makes a read preference from --readPreference (a mode or an object) and
// the connection string. The flag wins; without both it is primary.
func ReadPreference(flag string, cs *connstring.ConnString) (*readpref.ReadPref, error) {
	var mode string
	var opts []readpref.Option
	switch {
	case flag == "" && (cs == nil || cs.ReadPreference == ""):
		return readpref.Primary(), nil
	case flag == "":
		mode = cs.ReadPreference
		if tags := tag.NewTagSetsFromMaps(cs.ReadPreferenceTagSets); len(tags) > 0 {
			opts = append(opts, readpref.WithTagSets(tags...))
		}
		if cs.MaxStalenessSet {
			opts = append(opts, readpref.WithMaxStaleness(cs.MaxStaleness))
		}
	case flag[0] != '{':
		mode = flag
	default:
		var doc struct {
			Mode                *string
			TagSets             []map[string]string
			MaxStalenessSeconds *int
		}
		if err := json.Unmarshal(strictJSON(flag), &doc); err != nil {
			return nil, fmt.Errorf("invalid json object: %v", err)
		}
		if doc.Mode == nil {
			return nil, fmt.Errorf("no 'mode' specified")
		}
		mode = *doc.Mode
		if doc.TagSets != nil {
			opts = append(opts, readpref.WithTagSets(tag.NewTagSetsFromMaps(doc.TagSets)...))
		}
		if doc.MaxStalenessSeconds != nil {
			opts = append(opts, readpref.WithMaxStaleness(time.Duration(*doc.MaxStalenessSeconds)*time.Second))
		}
	}
	m, err := readpref.ModeFromString(mode)
	if err != nil {
		return nil, err
	}
	return readpref.New(m, opts...)
}

// WriteConcern is the driver's with the time limit that the driver's lacks.
type WriteConcern struct {
	writeconcern.WriteConcern
	WTimeout time.Duration // 0: none
}

// ParseWriteConcern makes a write concern from --writeConcern (a number, a mode or an
// object) and the connection string. The flag wins; without both it is majority.
func ParseWriteConcern(flag string, cs *connstring.ConnString) (*WriteConcern, error) {
	wc := &WriteConcern{}
	wc.W = writeconcern.WCMajority
	if flag == "" {
		if cs == nil {
			return wc, nil
		}
		if cs.WNumberSet {
			if cs.WNumber < 0 {
				return nil, fmt.Errorf("invalid 'w' argument: %v", cs.WNumber)
			}
			wc.W = cs.WNumber
		} else if cs.WString != "" {
			wc.W = cs.WString
		}
		if cs.JSet {
			wc.Journal = &cs.J
		}
		return wc, nil
	}
	var doc map[string]any
	if json.Unmarshal(strictJSON(flag), &doc) != nil {
		w, err := wMode(flag)
		wc.W = w
		return wc, err
	}
	if v, ok := doc["w"]; ok {
		var err error
		switch v := v.(type) {
		case float64:
			wc.W, err = wNumber(int(v))
		case string:
			wc.W, err = wMode(v)
		default:
			err = fmt.Errorf("invalid 'w' argument type: %v has type %T", v, v)
		}
		if err != nil {
			return nil, err
		}
	}
	if truthy(doc["j"]) {
		yes := true
		wc.Journal = &yes
	}
	if v, ok := doc["wtimeout"]; ok {
		ms, ok := v.(float64)
		if !ok {
			return nil, fmt.Errorf("invalid 'wtimeout' argument: %v", v)
		}
		wc.WTimeout = time.Duration(ms) * time.Millisecond
	}
	return wc, nil
}

func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0
	}
	return true
}

func wMode(s string) (any, error) {
	if s == "" {
		return writeconcern.WCMajority, nil
	}
	if n, err := strconv.Atoi(s); err == nil {
		return wNumber(n)
	}
	return s, nil
}

func wNumber(n int) (any, error) {
	if n < 0 {
		return nil, fmt.Errorf("invalid 'w' argument: %v", n)
	}
	return n, nil
}
