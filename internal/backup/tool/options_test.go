package tool

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newTestOptions(t *testing.T, tls bool) *Options {
	t.Helper()
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return NewOptions(Config{Name: "mongodump", Usage: "<options>", Server: true, TLS: tls, Stdin: in, Stderr: new(bytes.Buffer)})
}

// The errors are the originals', word for word.
func TestParseErrors(t *testing.T) {
	const different = "Invalid Options: Cannot specify different "
	for _, c := range []struct{ args, want string }{
		{"--foo", "unknown option `foo`"},
		{"--dbpath /x", "--dbpath and related flags are not supported in 3.0 tools.\nSee http://dochub.mongodb.org/core/tools-dbpath-deprecated for more information"},
		{"-vx", "Invalid verbosity value given"},
		{"--port", "expected argument for flag `--port'"},
		{"--dialTimeout x", "invalid argument for flag `--dialTimeout' (expected int)"},
		{"--uri mongodb://a mongodb://b", "illegal argument combination: cannot specify a URI in a positional argument and --uri"},
		{"mongodb://a mongodb://b", "too many URIs found in positional arguments: only one URI can be set as a positional argument"},
		{"--uri mongodb://a:1 --port 2", different + "port in connection URI and command-line option `a:1` was specified in the URI and `2` was specified in the --port option"},
		{"--uri mongodb://a --host b", different + "host in connection URI and command-line option `a` was specified in the URI and `b` was specified in the --host option"},
		{"--uri mongodb://a,b --host b", different + "host in connection URI and command-line option `a,b` was specified in the URI and `b` was specified in the --host option"},
		{"--uri mongodb://a/?replicaSet=x --host y/a", different + "replica set name in connection URI and command-line option `x` was specified in the URI and `y/a` was specified in the --host option"},
		{"--uri mongodb://u:p@a/ -u v", different + "username in connection URI and command-line option `u` was specified in the URI and `v` was specified in the --username option"},
		{"--uri mongodb://u:p@a/ -p q", different + "password in connection URI and command-line option"},
		{"--uri mongodb://u:p@a/?authSource=x --authenticationDatabase y", different + "authSource in connection URI and command-line option `x` was specified in the URI and `y` was specified in the --authenticationDatabase option"},
		{"--uri mongodb://u:p@a/?authMechanism=SCRAM-SHA-1 --authenticationMechanism SCRAM-SHA-256", different + "authMechanism in connection URI and command-line option `SCRAM-SHA-1` was specified in the URI and `SCRAM-SHA-256` was specified in the --authenticationMechanism option"},
		{"--uri mongodb://a/x -d y", different + "database in connection URI and command-line option `x` was specified in the URI and `y` was specified in the --db option"},
		{"--uri mongodb://a/?compressors=zstd --compressors snappy", different + "compressors in connection URI and command-line option `zstd` was specified in the URI and `snappy` was specified in the --compressors option"},
		{"--uri mongodb://a/?serverSelectionTimeoutMS=1000 --serverSelectionTimeout 2", different + "serverSelectionTimeout in connection URI and command-line option `1` was specified in the URI and `2` was specified in the --serverSelectionTimeout option"},
		{"--uri mongodb://a/?connectTimeoutMS=1000 --dialTimeout 2", different + "connectTimeout in connection URI and command-line option `1` was specified in the URI and `2` was specified in the --dialTimeout option"},
		{"--uri mongodb://a/?ssl=false --ssl", different + "ssl in connection URI and command-line option `false` was specified in the URI and `true` was specified in the --ssl option"},
		{"--uri mongodb://a/?tls=true&tlsCAFile=x --sslCAFile y", different + "sslCAFile in connection URI and command-line option `x` was specified in the URI and `y` was specified in the --sslCAFile option"},
		{"--uri mongodb://a/?tls=true&tlsInsecure=false --tlsInsecure", different + "sslInsecure or tlsInsecure in connection URI and command-line option `false` was specified in the URI and `true` was specified in the --sslAllowInvalidCert or --sslAllowInvalidHost option"},
		{"--uri mongodb://a,b/?loadBalanced=true", "loadBalanced cannot be set to true if multiple hosts are specified"},
		{"--uri http://a", `error parsing uri: scheme must be "mongodb" or "mongodb+srv"`},
		{"--tls", "unknown option `tls`"},
		{"--config /does/not/exist", "error opening file with --config: open /does/not/exist: no such file or directory"},
	} {
		_, err := newTestOptions(t, false).Parse(strings.Fields(c.args))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", c.args, err, c.want)
		}
	}
}

func TestParseMerges(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(conf, []byte("password: secret\nuri: mongodb://u@a:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		rest string
		ok   func(o *Options) bool
	}{
		{"", "", func(o *Options) bool { return o.Direct && o.ConnString.Hosts[0] == "localhost" }},
		{"-h rs/a,b:1 --port 1", "", func(o *Options) bool {
			return !o.Direct && o.ReplicaSetName == "rs" && strings.Join(o.ConnString.Hosts, " ") == "a:1 b:1"
		}},
		{"mongodb://h:3/db rest", "rest", func(o *Options) bool {
			return o.Namespace.DB == "db" && o.Connection.Port == "3" && o.Connection.Host == "h"
		}},
		{"-vvv", "", func(o *Options) bool { return o.LogLevel() == 3 }},
		{"-v -v", "", func(o *Options) bool { return o.LogLevel() == 2 }},
		{"--verbose=4", "", func(o *Options) bool { return o.LogLevel() == 4 }},
		{"-vv=3", "", func(o *Options) bool { return o.LogLevel() == 3 }},
		{"--quiet -v", "", func(o *Options) bool { return o.LogLevel() == -1 }},
		{"--config " + conf, "", func(o *Options) bool {
			return o.Auth.Password == "secret" && o.Auth.Username == "u" && o.ConnString.Hosts[0] == "a:1"
		}},
		{"--config " + conf + " -p x", "", func(o *Options) bool { return o.Auth.Password == "x" }},
		{"--tls --tlsCAFile f", "", func(o *Options) bool { return o.SSL.UseSSL && o.SSL.SSLCAFile == "f" && o.ConnString.SSL }},
		{"--uri mongodb://a/?tls=true&tlsInsecure=true", "", func(o *Options) bool { return o.SSL.UseSSL && o.SSL.TLSInsecure }},
		{"-u u", "", func(o *Options) bool { return o.ConnString.Username == "u" }}, // the password: an empty standard input
		{"mongodb://a/?compressors=zstd,snappy", "", func(o *Options) bool { return o.Connection.Compressors == "zstd,snappy" }},
		{"-u u -p p --authenticationMechanism MONGODB-AWS --awsSessionToken t", "", func(o *Options) bool {
			return o.ConnString.AuthMechanismProperties["AWS_SESSION_TOKEN"] == "t"
		}},
	} {
		o := newTestOptions(t, true)
		rest, err := o.Parse(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		if strings.Join(rest, " ") != c.rest || !c.ok(o) {
			t.Errorf("%s: rest %q, options %+v", c.args, rest, o.ConnString)
		}
	}
}

func TestWarnings(t *testing.T) {
	for args, want := range map[string]string{
		"-u u -p p":                    "using --password may be visible",
		"mongodb://u:p@h":              "in a connection string or using --uri may be visible",
		"mongodb://h/?foo=1":           "WARNING: ignoring unsupported URI parameter `foo`",
		"--sslAllowInvalidHostnames":   "are deprecated, please use --tlsInsecure",
		"--ssl --sslPEMKeyPassword pw": "directly using --sslPEMKeyPassword",
	} {
		o := newTestOptions(t, false)
		if _, err := o.Parse(strings.Fields(args)); err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		if len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], want) {
			t.Errorf("%s: %q", args, o.Warnings)
		}
	}
}

func TestPasswordPrompt(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("sex\x7fcret\nthe archive"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var out bytes.Buffer
	o := NewOptions(Config{Name: "x", Server: true, Stdin: r, Stderr: &out})
	if _, err := o.Parse([]string{"-u", "u"}); err != nil {
		t.Fatal(err)
	}
	if o.Auth.Password != "secret" || !strings.Contains(out.String(), "Enter password for mongo user:") {
		t.Errorf("password %q, asked %q", o.Auth.Password, out.String())
	}
	rest := make([]byte, 20)
	if n, _ := r.Read(rest); string(rest[:n]) != "the archive" {
		t.Errorf("read ahead: %q is left", rest[:n])
	}
}

func TestClientOptions(t *testing.T) {
	for _, c := range []struct {
		args string
		ok   func(t *testing.T, o *Options) bool
	}{
		{"mongodb://a/?maxPoolSize=7&authMechanism=PLAIN -u u -p p", func(t *testing.T, o *Options) bool {
			c, err := o.ClientOptions()
			return err == nil && *c.MaxPoolSize == 7 && c.Auth.AuthSource == "$external" && c.Auth.Password == "p" && *c.Direct
		}},
		{"mongodb://u:p@a,b/x?readPreference=secondary", func(t *testing.T, o *Options) bool {
			c, err := o.ClientOptions()
			return err == nil && c.Auth.AuthSource == "x" && c.Direct == nil && c.ReadPreference.Mode().String() == "secondary"
		}},
		{"--ssl --sslFIPSMode", func(t *testing.T, o *Options) bool { _, err := o.ClientOptions(); return err == ErrFIPS }},
		{"--ssl --sslCRLFile x", func(t *testing.T, o *Options) bool { _, err := o.ClientOptions(); return err == ErrCRL }},
		{"--ssl --sslCAFile /does/not/exist", func(t *testing.T, o *Options) bool {
			_, err := o.ClientOptions()
			return err != nil && strings.Contains(err.Error(), "can't load CA file")
		}},
		{"--ssl", func(t *testing.T, o *Options) bool {
			c, err := o.ClientOptions()
			return err == nil && c.TLSConfig != nil
		}},
		{"", func(t *testing.T, o *Options) bool {
			c, err := o.ClientOptions()
			return err == nil && c.TLSConfig == nil && c.Auth == nil
		}},
	} {
		o := newTestOptions(t, false)
		if _, err := o.Parse(strings.Fields(c.args)); err != nil {
			t.Errorf("%s: %v", c.args, err)
		} else if !c.ok(t, o) {
			c, err := o.ClientOptions()
			t.Errorf("wrong: %+v, %v", c, err)
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"mongodb://a/":          "mongodb://a/",
		"mongodb://u:secret@a/": "mongodb://u:****@a/",
		"mongodb://u:s%zz@a/":   "mongodb://…@a/",
	} {
		if got := redact(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestReadPreferenceAndWriteConcern(t *testing.T) {
	for in, want := range map[string]string{
		"":        "primary",
		"nearest": "nearest(maxStaleness",
		`{mode: "nearest", tagSets: [{a: "b"}], maxStalenessSeconds: 123}`: "nearest(",
		`{mode:'secondary'}`: "secondary",
	} {
		p, err := ReadPreference(in, nil)
		if err != nil || !strings.HasPrefix(want, p.Mode().String()) {
			t.Errorf("%s: %v %v", in, p, err)
		}
	}
	for in, want := range map[string]string{"bogus": "unknown read preference bogus", "{}": "no 'mode' specified", "{mode": "invalid json object"} {
		if _, err := ReadPreference(in, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
	wc, err := ParseWriteConcern("{w: 3, wtimeout: 500, fsync: true, j: true}", nil)
	if err != nil || wc.W != 3 || wc.WTimeout.Milliseconds() != 500 || !*wc.Journal {
		t.Errorf("%+v %v", wc, err)
	}
	if wc, err := ParseWriteConcern("2", nil); err != nil || wc.W != 2 {
		t.Errorf("%+v %v", wc, err)
	}
	if _, err := ParseWriteConcern("-1", nil); err == nil {
		t.Error("w: -1 was taken")
	}
}
