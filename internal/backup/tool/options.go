package tool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	flags "github.com/jessevdk/go-flags"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

// OriginalVersion is the version of the original tools whose command line, files and
// archives the tools here have. It is what goes into preludes as the tool's version.
const OriginalVersion = "100.18.0"

// General holds the options every tool has.
type General struct {
	Help       bool   `long:"help" description:"print usage"`
	Version    bool   `long:"version" description:"print the tool version and exit"`
	ConfigPath string `long:"config" description:"path to a configuration file"`

	MaxProcs   int    `long:"numThreads" hidden:"true"`
	Failpoints string `long:"failpoints" hidden:"true"`
	Trace      bool   `long:"trace" hidden:"true"`
}

// Verbosity holds the log options; Level is what they amount to.
type Verbosity struct {
	SetVerbosity func(string) `short:"v" long:"verbose" value-name:"<level>" description:"more detailed log output (include multiple times for more verbosity, e.g. -vvvvv, or specify a numeric value, e.g. --verbose=N)" optional:"true" optional-value:""`
	Quiet        bool         `long:"quiet" description:"hide all log output"`
	Level        int          `no-flag:"true"`
}

// Connection holds where to connect to, and how long to wait.
type Connection struct {
	Host string `short:"h" long:"host" value-name:"<hostname>" description:"mongodb host to connect to (setname/host1,host2 for replica sets)"`
	Port string `long:"port" value-name:"<port>" description:"server port (can also use --host hostname:port)"`

	Timeout                int    `long:"dialTimeout" default:"3" hidden:"true" description:"dial timeout in seconds"`
	SocketTimeout          int    `long:"socketTimeout" default:"0" hidden:"true" description:"socket timeout in seconds (0 for no timeout)"`
	TCPKeepAliveSeconds    int    `long:"TCPKeepAliveSeconds" default:"30" hidden:"true" description:"seconds between TCP keep alives"`
	ServerSelectionTimeout int    `long:"serverSelectionTimeout" hidden:"true" description:"seconds to wait for server selection; 0 means driver default"`
	Compressors            string `long:"compressors" default:"none" hidden:"true" value-name:"<snappy,...>" description:"comma-separated list of compressors to enable. Use 'none' to disable."`
}

// SSL holds the TLS options under their original names.
type SSL struct {
	UseSSL              bool   `long:"ssl" description:"connect to a mongod or mongos that has ssl enabled"`
	SSLCAFile           string `long:"sslCAFile" value-name:"<filename>" description:"the .pem file containing the root certificate chain from the certificate authority"`
	SSLPEMKeyFile       string `long:"sslPEMKeyFile" value-name:"<filename>" description:"the .pem file containing the certificate and key"`
	SSLPEMKeyPassword   string `long:"sslPEMKeyPassword" value-name:"<password>" description:"the password to decrypt the sslPEMKeyFile, if necessary"`
	SSLCRLFile          string `long:"sslCRLFile" value-name:"<filename>" description:"the .pem file containing the certificate revocation list"`
	SSLAllowInvalidCert bool   `long:"sslAllowInvalidCertificates" hidden:"true" description:"bypass the validation for server certificates"`
	SSLAllowInvalidHost bool   `long:"sslAllowInvalidHostnames" hidden:"true" description:"bypass the validation for server name"`
	SSLFipsMode         bool   `long:"sslFIPSMode" description:"use FIPS mode of the installed openssl library"`
	TLSInsecure         bool   `long:"tlsInsecure" description:"bypass the validation for server's certificate chain and host name"`
}

// TLS holds the names that mongosh and the server have for the options of SSL. The
// originals do not know them, so they are a group of the `cairn` form only.
type TLS struct {
	UseTLS     bool   `long:"tls" description:"connect to a mongod or mongos that has tls enabled (same as --ssl)"`
	CAFile     string `long:"tlsCAFile" value-name:"<filename>" description:"same as --sslCAFile"`
	KeyFile    string `long:"tlsCertificateKeyFile" value-name:"<filename>" description:"same as --sslPEMKeyFile"`
	KeyPass    string `long:"tlsCertificateKeyFilePassword" value-name:"<password>" description:"same as --sslPEMKeyPassword"`
	CRLFile    string `long:"tlsCRLFile" value-name:"<filename>" description:"same as --sslCRLFile"`
	AnyCert    bool   `long:"tlsAllowInvalidCertificates" description:"same as --tlsInsecure"`
	AnyHost    bool   `long:"tlsAllowInvalidHostnames" description:"same as --tlsInsecure"`
	FIPSMode   bool   `long:"tlsFIPSMode" description:"same as --sslFIPSMode"`
	registered bool
}

// Auth holds who connects.
type Auth struct {
	Username        string `short:"u" value-name:"<username>" long:"username" description:"username for authentication"`
	Password        string `short:"p" value-name:"<password>" long:"password" description:"password for authentication"`
	Source          string `long:"authenticationDatabase" value-name:"<database-name>" description:"database that holds the user's credentials"`
	Mechanism       string `long:"authenticationMechanism" value-name:"<mechanism>" description:"authentication mechanism to use"`
	AWSSessionToken string `long:"awsSessionToken" value-name:"<aws-session-token>" description:"session token to authenticate via AWS IAM"`
}

// Kerberos holds the options of the GSSAPI mechanism.
type Kerberos struct {
	Service     string `long:"gssapiServiceName" value-name:"<service-name>" description:"service name to use when authenticating using GSSAPI/Kerberos (default: mongodb)"`
	ServiceHost string `long:"gssapiHostName" value-name:"<host-name>" description:"hostname to use when authenticating using GSSAPI/Kerberos (default: <remote server's address>)"`
}

// Namespace holds which database and collection.
type Namespace struct {
	DB         string `short:"d" long:"db" value-name:"<database-name>" description:"database to use"`
	Collection string `short:"c" long:"collection" value-name:"<collection-name>" description:"collection to use"`
}

// URI holds the connection string.
type URI struct {
	ConnectionString string `long:"uri" value-name:"mongodb-uri" description:"mongodb uri connection string"`
}

// Config says which tool an Options is for.
type Config struct {
	Name    string // as it stands in the usage line and in the server's log, e.g. "mongodump"
	Usage   string // the text after the name in the help
	Version string // what --version prints
	Commit  string // the git commit, "" if unknown
	Server  bool   // the tool connects: connection, TLS, authentication, namespace and URI groups
	TLS     bool   // also accept --tls… (the `cairn` form)

	Stdin  *os.File // where a password is read from; os.Stdin if nil
	Stderr io.Writer
}

// Options is a tool's command line and what it amounts to. The zero value is not usable,
// see NewOptions.
type Options struct {
	Config Config

	General    General
	Verbosity  Verbosity
	Connection Connection
	SSL        SSL
	TLS        TLS
	Auth       Auth
	Kerberos   Kerberos
	Namespace  Namespace
	URI        URI

	// ConnString is the connection string with every flag merged into it, after Parse.
	ConnString *connstring.ConnString
	// Direct means: talk to the one server that is named, do not look for its replica set.
	Direct bool
	// ReplicaSetName is from --host set/… or from the connection string.
	ReplicaSetName string
	// ReadPreference and WriteConcern are what Connect gives the client where not nil; a
	// tool sets them before it connects.
	ReadPreference *readpref.ReadPref
	WriteConcern   *WriteConcern
	// Dialer makes the client's connections, the driver's own if it is nil.
	Dialer options.ContextDialer
	// RetryWrites is from the connection string, nil if it is silent.
	RetryWrites *bool

	// Warnings are lines that Parse wants logged; the caller logs them.
	Warnings []string

	parser       *flags.Parser
	verbosityErr error
}

// ErrVerbosity is returned by Parse for a -v value that is no level. The originals print
// just this and end with code 255.
var ErrVerbosity = errors.New("Invalid verbosity value given") //nolint:staticcheck // the originals' text

// NewOptions returns the options of a tool with the common groups registered.
func NewOptions(c Config) *Options {
	o := &Options{Config: c}
	o.parser = flags.NewNamedParser(fmt.Sprintf("%v %v", c.Name, c.Usage), flags.None)
	o.parser.UnknownOptionHandler = unknownOption
	o.Verbosity.SetVerbosity = o.setVerbosity
	o.group("general options", &o.General)
	o.group("verbosity options", &o.Verbosity)
	if c.Server {
		o.group("connection options", &o.Connection)
		o.group("ssl options", &o.SSL)
		if c.TLS {
			o.group("tls options", &o.TLS)
			o.TLS.registered = true
		}
		o.group("authentication options", &o.Auth)
		o.group("kerberos options", &o.Kerberos)
		o.group("namespace options", &o.Namespace)
		o.group("uri options", &o.URI)
	}
	return o
}

// group registers one group; the tags are ours, so an error is a mistake in this program.
func (o *Options) group(name string, data any) {
	if _, err := o.parser.AddGroup(name, "", data); err != nil {
		panic(fmt.Sprintf("registering %s: %v", name, err))
	}
}

// AddGroup registers a tool's own options: a pointer to a struct with go-flags tags. The
// help shows them under "<name> options:", in the order of the calls.
func (o *Options) AddGroup(name string, data any) { o.group(name+" options", data) }

// Describe replaces the help text of an option that is already registered.
func (o *Options) Describe(long, text string) {
	if f := o.parser.FindOptionByLongName(long); f != nil {
		f.Description = text
	}
}

// IsSet says whether the option was on the command line.
func (o *Options) IsSet(long string) bool {
	f := o.parser.FindOptionByLongName(long)
	return f != nil && f.IsSet() && !f.IsSetDefault()
}

// WriteHelp prints the usage.
func (o *Options) WriteHelp(w io.Writer) { o.parser.WriteHelp(w) }

// VersionText is what --version prints.
func (o *Options) VersionText() string {
	return fmt.Sprintf("%v version: %v\ngit version: %v\nGo version: %v\n   os: %v\n   arch: %v\n   compiler: %v\n",
		o.Config.Name, o.Config.Version, o.Config.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.Compiler)
}

// LogLevel is the level for NewLog: -1 for --quiet.
func (o *Options) LogLevel() int {
	if o.Verbosity.Quiet {
		return -1
	}
	return o.Verbosity.Level
}

func unknownOption(option string, _ flags.SplitArgument, args []string) ([]string, error) {
	switch option {
	case "dbpath", "directoryperdb", "journal":
		return args, errors.New("--dbpath and related flags are not supported in 3.0 tools.\n" + //nolint:staticcheck // the originals' text
			"See http://dochub.mongodb.org/core/tools-dbpath-deprecated for more information")
	}
	return args, fmt.Errorf("unknown option %#q", option)
}

var (
	verboseVs = regexp.MustCompile(`^v+$`)
	verboseEq = regexp.MustCompile(`^v+=[0-9]$`)
)

// setVerbosity is called for every -v: "" for a lone one, "vv" for -vvv, "vv=3", "3".
func (o *Options) setVerbosity(val string) {
	v := &o.Verbosity
	switch i, err := strconv.Atoi(val); {
	case err == nil:
		v.Level += i
	case verboseVs.MatchString(val):
		v.Level += len(val) + 1
	case verboseEq.MatchString(val):
		v.Level = int(val[len(val)-1] - '0')
	case val == "":
		v.Level++
	default:
		o.verbosityErr = ErrVerbosity
	}
}

// Parse reads a command line (without the program's name) and the file that --config
// names, then merges flags and connection string. A connection string may stand as a
// positional argument; the other positional arguments are returned. Where a password is
// needed and missing it is asked for. With --help or --version nothing is merged.
func (o *Options) Parse(args []string) (rest []string, err error) {
	o.warnOfPasswords(args)
	rest, err = o.parser.ParseArgs(args)
	if o.verbosityErr != nil {
		return nil, o.verbosityErr
	}
	if err != nil {
		return nil, err
	}
	if o.General.ConfigPath != "" {
		if err := o.readConfig(o.General.ConfigPath); err != nil {
			return nil, err
		}
	}
	if !o.Config.Server {
		return rest, nil
	}
	if err := o.foldTLS(); err != nil {
		return nil, err
	}
	if o.SSL.SSLAllowInvalidCert || o.SSL.SSLAllowInvalidHost {
		o.warn("WARNING: --sslAllowInvalidCertificates and --sslAllowInvalidHostnames are deprecated, please use --tlsInsecure instead")
	}
	if rest, err = o.uriFromArgs(rest); err != nil {
		return nil, err
	}
	if err := o.normalize(); err != nil {
		return nil, err
	}
	for key := range o.ConnString.UnknownOptions {
		o.warn(fmt.Sprintf("WARNING: ignoring unsupported URI parameter %#q", key))
	}
	return rest, nil
}

func (o *Options) warn(s string) { o.Warnings = append(o.Warnings, s) }

// foldTLS copies the --tls… names onto the --ssl… ones.
func (o *Options) foldTLS() error {
	t, s := &o.TLS, &o.SSL
	if !t.registered {
		return nil
	}
	for _, p := range []struct {
		tls, ssl string
		from     string
		to       *string
	}{
		{"--tlsCAFile", "--sslCAFile", t.CAFile, &s.SSLCAFile},
		{"--tlsCertificateKeyFile", "--sslPEMKeyFile", t.KeyFile, &s.SSLPEMKeyFile},
		{"--tlsCertificateKeyFilePassword", "--sslPEMKeyPassword", t.KeyPass, &s.SSLPEMKeyPassword},
		{"--tlsCRLFile", "--sslCRLFile", t.CRLFile, &s.SSLCRLFile},
	} {
		if p.from == "" {
			continue
		}
		if *p.to != "" && *p.to != p.from {
			return fmt.Errorf("illegal argument combination: cannot specify %s and %s with different values", p.tls, p.ssl)
		}
		*p.to = p.from
	}
	s.UseSSL = s.UseSSL || t.UseTLS
	s.TLSInsecure = s.TLSInsecure || t.AnyCert || t.AnyHost
	s.SSLFipsMode = s.SSLFipsMode || t.FIPSMode
	return nil
}

// uriFromArgs takes the connection string out of the positional arguments.
func (o *Options) uriFromArgs(args []string) ([]string, error) {
	var rest []string
	found := ""
	for _, a := range args {
		if a == "" {
			continue
		}
		_, err := connstring.Parse(a)
		switch {
		case err == nil && found != "":
			return nil, errors.New("too many URIs found in positional arguments: only one URI can be set as a positional argument")
		case err == nil:
			found = a
		case !strings.HasPrefix(a, "mongodb://") && !strings.HasPrefix(a, "mongodb+srv://"):
			rest = append(rest, a)
		default:
			return nil, err
		}
	}
	if found == "" {
		return rest, nil
	}
	if o.URI.ConnectionString != "" {
		return nil, errors.New("illegal argument combination: cannot specify a URI in a positional argument and --uri")
	}
	o.URI.ConnectionString = found
	return rest, nil
}

// warnOfPasswords warns of secrets that `ps` shows. Like the originals it looks only at
// command lines made of the common options.
func (o *Options) warnOfPasswords(args []string) {
	const how = " may be visible to system status programs such as `ps` that may be invoked by other users. "
	const omit = "Consider omitting the password to provide it via stdin, or using the --config option to specify a configuration file with the password."
	t := &Options{}
	t.parser = flags.NewNamedParser("", flags.None)
	t.parser.UnknownOptionHandler = unknownOption
	t.Verbosity.SetVerbosity = func(string) {}
	for _, g := range []any{&t.General, &t.Verbosity, &t.Connection, &t.SSL, &t.Auth, &t.Kerberos, &t.URI} {
		t.group("group", g)
	}
	rest, err := t.parser.ParseArgs(args)
	if err != nil {
		return
	}
	if _, err = t.uriFromArgs(rest); err != nil {
		return
	}
	if t.Auth.Password != "" {
		o.warn("WARNING: On some systems, a password provided directly using --password" + how + omit)
	}
	if u := t.URI.ConnectionString; u != "" {
		if cs, err := connstring.Parse(u); err == nil && cs.Password != "" {
			o.warn("WARNING: On some systems, a password provided directly in a connection string or using --uri" + how + omit)
		}
	}
	if t.SSL.SSLPEMKeyPassword != "" {
		o.warn("WARNING: On some systems, a password provided directly using --sslPEMKeyPassword" + how +
			"Consider using the --config option to specify a configuration file with the password.")
	}
}
