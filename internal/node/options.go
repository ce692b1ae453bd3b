package node

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Option is one setting as the command line and mongod.conf name it.
type Option struct {
	Flag  string // "dbpath"; "" if it exists in YAML only
	Key   string // "storage.dbPath"; "" if it exists on the command line only
	Bool  bool   // takes no value on the command line
	Multi bool   // may be given more than once
	Set   func(s *Settings, value string) error
	Help  string
}

// Settings are a Config and what only the serving process itself needs.
type Settings struct {
	Config
	LogPath     string
	LogAppend   bool
	Quiet       bool
	Verbosity   int
	PidFile     string
	Fork        bool
	Shutdown    bool
	ShowVersion bool
	ConfigFile  string

	BackupSettings BackupSettings
	// MetricsAddr is HOST:PORT of the page /metrics; "" is none.
	MetricsAddr string
}

// BackupSettings say where the serving process backs its server up to. What they mean is
// cmd's business.
type BackupSettings struct {
	Repo           string // URL of the repository; "" is no backup
	URI            string // how to connect to this server, for a user of its own
	PassphraseFile string
	Seconds        int // between two slices; 0 is the default
	FullEvery      string
}

func str(to func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error { *to(s) = v; return nil }
}

func flag(to func(*Settings) *bool) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		b, err := strconv.ParseBool(v)
		*to(s) = b
		return err
	}
}

func num(to func(*Settings) *int, lo, hi int) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("%q is not a number from %d to %d", v, lo, hi)
		}
		*to(s) = n
		return nil
	}
}

func only(want ...string) func(*Settings, string) error {
	return func(_ *Settings, v string) error {
		for _, w := range want {
			if v == w {
				return nil
			}
		}
		return fmt.Errorf("%q is not supported by this version of Cairn, only %s", v, strings.Join(want, ", "))
	}
}

// Options are all settings, by flag. What is not here is refused by name.
var Options = []Option{
	{Flag: "backup", Key: "backup.repository", Help: "back up continuously into this repository: file:///dir, s3://bucket, gs://bucket, azblob://container", Set: str(func(s *Settings) *string { return &s.BackupSettings.Repo })},
	{Flag: "backupFullEvery", Key: "backup.fullEvery", Help: "take a full backup when the newest is older, such as 7d", Set: str(func(s *Settings) *string { return &s.BackupSettings.FullEvery })},
	{Flag: "backupPassphraseFile", Key: "backup.passphraseFile", Help: "file with the passphrase that encrypts the repository", Set: str(func(s *Settings) *string { return &s.BackupSettings.PassphraseFile })},
	{Flag: "backupSeconds", Key: "backup.seconds", Help: "store what was captured after so many seconds (4)", Set: num(func(s *Settings) *int { return &s.BackupSettings.Seconds }, 1, 86400)},
	{Flag: "backupUri", Key: "backup.uri", Help: "connection string for the backup, for a user with the role backup", Set: str(func(s *Settings) *string { return &s.BackupSettings.URI })},
	{Flag: "bind_ip", Key: "net.bindIp", Help: "comma separated addresses to listen on (127.0.0.1)", Set: func(s *Settings, v string) error {
		s.BindIP = strings.Split(v, ",")
		return nil
	}},
	{Flag: "bind_ip_all", Key: "net.bindIpAll", Bool: true, Help: "listen on all addresses", Set: func(s *Settings, v string) error {
		if all, err := strconv.ParseBool(v); err != nil || !all {
			return err
		}
		s.BindIP = []string{"0.0.0.0"}
		return nil
	}},
	{Flag: "config", Help: "configuration file in mongod.conf's shape", Set: str(func(s *Settings) *string { return &s.ConfigFile })},
	{Flag: "dbpath", Key: "storage.dbPath", Help: "directory of the store (./data)", Set: str(func(s *Settings) *string { return &s.DBPath })},
	{Flag: "directoryperdb", Key: "storage.directoryPerDB", Bool: true, Set: only("false"), Help: "only false"},
	{Flag: "fork", Key: "processManagement.fork", Bool: true, Help: "run in the background", Set: flag(func(s *Settings) *bool { return &s.Fork })},
	{Flag: "inMemory", Bool: true, Help: "keep the store in memory only", Set: flag(func(s *Settings) *bool { return &s.InMemory })},
	{Flag: "journal", Key: "storage.journal.enabled", Bool: true, Set: only("true"), Help: "always on"},
	{Flag: "logappend", Key: "systemLog.logAppend", Bool: true, Help: "append to the log file instead of renaming the old one", Set: flag(func(s *Settings) *bool { return &s.LogAppend })},
	{Flag: "logpath", Key: "systemLog.path", Help: "log file; standard output if not given", Set: str(func(s *Settings) *string { return &s.LogPath })},
	{Flag: "maxConns", Key: "net.maxIncomingConnections", Help: "connections served at once (65536)", Set: num(func(s *Settings) *int { return &s.MaxConns }, 1, 1<<20)},
	{Flag: "metricsAddr", Key: "net.metricsAddr", Help: "HOST:PORT of a page /metrics for Prometheus, without access control; none if not given", Set: str(func(s *Settings) *string { return &s.MetricsAddr })},
	{Flag: "noauth", Bool: true, Set: only("true"), Help: "accepted: access control is not built yet"},
	{Flag: "nounixsocket", Bool: true, Help: "no Unix socket", Set: flag(func(s *Settings) *bool { return &s.NoUnixSocket })},
	{Flag: "oplogMinRetentionHours", Key: "storage.oplogMinRetentionHours", Help: "keep oplog entries at least that long", Set: setRetention},
	{Flag: "oplogSize", Key: "replication.oplogSizeMB", Help: "size of the oplog in MB (5 % of the free disk, 990 MB to 50 GB)", Set: setOplogSize},
	{Flag: "pidfilepath", Key: "processManagement.pidFilePath", Help: "file for the process id", Set: str(func(s *Settings) *string { return &s.PidFile })},
	{Flag: "port", Key: "net.port", Help: "TCP port (27017); 0 lets the system choose", Set: setPort},
	{Flag: "quiet", Key: "systemLog.quiet", Bool: true, Help: "log less", Set: flag(func(s *Settings) *bool { return &s.Quiet })},
	{Flag: "replSet", Key: "replication.replSetName", Help: "be a member of this replica set", Set: str(func(s *Settings) *string { return &s.ReplSet })},
	{Flag: "replSetAutoInitiate", Bool: true, Help: "initiate the replica set at the first start", Set: flag(func(s *Settings) *bool { return &s.ReplSetAutoInitiate })},
	{Flag: "setParameter", Multi: true, Help: "name=value, may be repeated", Set: func(s *Settings, v string) error {
		if !strings.Contains(v, "=") {
			return fmt.Errorf("%q is not name=value", v)
		}
		s.Parameters = append(s.Parameters, v)
		return nil
	}},
	{Flag: "shutdown", Bool: true, Help: "end the server that runs on --dbpath", Set: flag(func(s *Settings) *bool { return &s.Shutdown })},
	{Flag: "storageEngine", Key: "storage.engine", Set: only("wiredTiger", "cairn"), Help: "accepted: wiredTiger"},
	{Flag: "unixSocketPrefix", Key: "net.unixDomainSocket.pathPrefix", Help: "directory of the Unix socket (/tmp)", Set: str(func(s *Settings) *string { return &s.UnixSocketPrefix })},
	{Flag: "verbose", Key: "systemLog.verbosity", Help: "log more", Set: num(func(s *Settings) *int { return &s.Verbosity }, 0, 5)},
	{Flag: "version", Bool: true, Help: "print the version and exit", Set: flag(func(s *Settings) *bool { return &s.ShowVersion })},
	{Flag: "wiredTigerCacheSizeGB", Key: "storage.wiredTiger.engineConfig.cacheSizeGB", Help: "size of the cache in GB", Set: setCache},
	{Key: "net.unixDomainSocket.enabled", Help: "whether there is a Unix socket (true)", Set: func(s *Settings, v string) error {
		on, err := strconv.ParseBool(v)
		s.NoUnixSocket = !on
		return err
	}},
	{Key: "net.tls.mode", Help: "only disabled", Set: only("disabled")},
	{Key: "security.authorization", Help: "only disabled", Set: only("disabled")},
	{Key: "systemLog.destination", Help: "only file", Set: only("file")},
	{Key: "processManagement.timeZoneInfo", Help: "accepted: Cairn carries its own time zones", Set: func(*Settings, string) error { return nil }},
}

func setPort(s *Settings, v string) error {
	if err := num(func(s *Settings) *int { return &s.Port }, 0, 65535)(s, v); err != nil {
		return err
	}
	s.AnyPort = s.Port == 0
	return nil
}

func setOplogSize(s *Settings, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 || n > 1<<40 {
		return fmt.Errorf("%q is not a size in megabytes", v)
	}
	s.OplogBytes = n << 20
	return nil
}

func setRetention(s *Settings, v string) error {
	h, err := strconv.ParseFloat(v, 64)
	if err != nil || h < 0 {
		return fmt.Errorf("%q is not a number of hours", v)
	}
	s.OplogMinRetention = hoursOf(h)
	return nil
}

func setCache(s *Settings, v string) error {
	gb, err := strconv.ParseFloat(v, 64)
	if err != nil || gb <= 0 || gb > 10000 {
		return fmt.Errorf("%q is not a size in gigabytes", v)
	}
	s.CacheBytes = int64(gb * (1 << 30))
	return nil
}

// OptionByFlag returns the option of a command line flag, nil if there is none.
func OptionByFlag(name string) *Option {
	for i := range Options {
		if Options[i].Flag == name && name != "" {
			return &Options[i]
		}
	}
	return nil
}

func optionByKey(key string) *Option {
	for i := range Options {
		if Options[i].Key == key {
			return &Options[i]
		}
	}
	return nil
}

// LoadFile reads a file in mongod.conf's shape into s. Settings that were given on
// the command line (given, by flag) win over the file.
func (s *Settings) LoadFile(path string, given map[string]bool) error {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return fmt.Errorf("configuration file %s: %w", path, err)
	}
	return s.apply(path, "", tree, given)
}

func (s *Settings) apply(path, prefix string, tree map[string]any, given map[string]bool) error {
	keys := make([]string, 0, len(tree))
	for k := range tree {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		key := prefix + k
		v := tree[k]
		if key == "setParameter" {
			if err := s.applyParameters(path, v); err != nil {
				return err
			}
			continue
		}
		if sub, ok := v.(map[string]any); ok {
			if err := s.apply(path, key+".", sub, given); err != nil {
				return err
			}
			continue
		}
		o := optionByKey(key)
		if o == nil {
			return fmt.Errorf("configuration file %s: %s is not supported by this version of Cairn", path, key)
		}
		if v == nil || (o.Flag != "" && given[o.Flag]) {
			continue
		}
		if err := o.Set(s, fmt.Sprint(v)); err != nil {
			return fmt.Errorf("configuration file %s: %s: %w", path, key, err)
		}
	}
	return nil
}

func (s *Settings) applyParameters(path string, v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("configuration file %s: setParameter has to be a mapping", path)
	}
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		s.Parameters = append(s.Parameters, fmt.Sprintf("%s=%v", n, m[n]))
	}
	return nil
}
