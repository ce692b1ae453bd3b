package tool

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/xoptions"
)

// Connect makes a client of the server the command line names and waits until it answers.
// Everything the connection string says is the driver's to interpret; flags come on top.
// The caller disconnects the client.
func (o *Options) Connect(ctx context.Context) (*mongo.Client, error) {
	opts, err := o.ClientOptions()
	if err != nil {
		return nil, fmt.Errorf("error configuring the connector: %v", err)
	}
	c, err := mongo.Connect(opts)
	if err != nil {
		return nil, fmt.Errorf("error configuring the connector: %v", err)
	}
	if err := c.Ping(ctx, nil); err != nil {
		// A client that never connected has nothing to wait for.
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Disconnect(gone)
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("failed to connect to %s: %v", redact(o.ConnString.Original), err)
	}
	return c, nil
}

// redact takes the password out of a connection string.
func redact(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.User == nil {
		if i := strings.LastIndexByte(uri, '@'); i >= 0 {
			scheme, _, _ := strings.Cut(uri, "://")
			return scheme + "://…" + uri[i:]
		}
		return uri
	}
	if _, has := u.User.Password(); has {
		name := u.User.Username()
		u.User = nil
		return strings.Replace(u.String(), "://", "://"+url.QueryEscape(name)+":****@", 1)
	}
	return uri
}

// ClientOptions is what Connect gives the driver.
func (o *Options) ClientOptions() (*options.ClientOptions, error) {
	cs, c := o.ConnString, &o.Connection
	opts := options.Client()
	// The driver reads the connection string itself, so that it has every option it knows.
	// TLS and credentials are made below, where the flags are merged in: a string without
	// hosts' TLS files would be read twice, and with less to say in errors.
	opts.ApplyURI(stripMerged(cs.Original))
	opts.Auth, opts.TLSConfig = nil, nil
	opts.SetHosts(cs.Hosts)
	opts.SetAppName(o.Config.Name)
	opts.SetConnectTimeout(time.Duration(c.Timeout) * time.Second)
	if c.ServerSelectionTimeout > 0 {
		opts.SetServerSelectionTimeout(time.Duration(c.ServerSelectionTimeout) * time.Second)
	}
	if o.ReplicaSetName != "" {
		opts.SetReplicaSet(o.ReplicaSetName)
	}
	opts.Direct = nil
	if o.Direct && len(opts.Hosts) == 1 {
		opts.SetDirect(true)
		// As in the originals: a member that cannot take a login yet is still connected to.
		if err := xoptions.SetInternalClientOptions(opts, "authenticateToAnything", true); err != nil {
			return nil, err
		}
	}
	if o.RetryWrites != nil {
		opts.SetRetryWrites(*o.RetryWrites)
	}
	if o.ReadPreference != nil {
		opts.SetReadPreference(o.ReadPreference)
	}
	if o.WriteConcern != nil {
		opts.SetWriteConcern(&o.WriteConcern.WriteConcern)
	} else if opts.WriteConcern == nil {
		opts.SetWriteConcern(writeconcern.Majority())
	}
	opts.Compressors = nil
	if c.Compressors != "" && c.Compressors != "none" {
		opts.SetCompressors(strings.Split(c.Compressors, ","))
	}
	if err := o.setAuth(opts); err != nil {
		return nil, err
	}
	if o.SSL.UseSSL {
		if err := o.setTLS(opts); err != nil {
			return nil, err
		}
	}
	if o.Dialer != nil {
		opts.SetDialer(o.Dialer)
	}
	PollServers(opts)
	if cs.SSLDisableOCSPEndpointCheckSet {
		opts.SetDisableOCSPEndpointCheck(cs.SSLDisableOCSPEndpointCheck)
	}
	return opts, nil
}

// PollServers lets a client ask its servers how they are now and then, unless the connection string says
// otherwise, instead of leaving a question open that they answer when something changes. A client that
// is disconnected just when it asks would wait for that answer, 10 seconds at worst. An election is
// noticed by the first operation that fails, as otherwise by most.
func PollServers(o *options.ClientOptions) {
	if o.ServerMonitoringMode == nil {
		o.SetServerMonitoringMode(options.ServerMonitoringModePoll)
	}
}

// stripMerged takes the options out of a connection string that are merged with flags and
// given to the driver by hand. A string it does not understand stays as it is: then the
// driver says what is wrong with it.
func stripMerged(uri string) string {
	head, query, ok := strings.Cut(uri, "?")
	if !ok {
		return uri
	}
	var keep []string
	for _, kv := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' }) {
		key, _, _ := strings.Cut(kv, "=")
		k := strings.ToLower(key)
		switch {
		case strings.HasPrefix(k, "tls"), strings.HasPrefix(k, "ssl"), strings.HasPrefix(k, "auth"),
			k == "directconnection", k == "connect", k == "compressors", k == "sockettimeoutms":
		default:
			keep = append(keep, kv)
		}
	}
	if len(keep) == 0 {
		return head
	}
	return head + "?" + strings.Join(keep, "&")
}

// AuthenticationDatabase is the one that holds the user: what was said, else $external for
// the mechanisms that need it, else the database that is worked on.
func (o *Options) AuthenticationDatabase() string {
	switch {
	case o.Auth.Source != "":
		return o.Auth.Source
	case o.Auth.Mechanism == "GSSAPI", o.Auth.Mechanism == "PLAIN", o.Auth.Mechanism == "MONGODB-X509", o.Auth.Mechanism == "MONGODB-OIDC":
		return "$external"
	}
	return o.Namespace.DB
}

func (o *Options) setAuth(opts *options.ClientOptions) error {
	if o.Auth == (Auth{}) {
		return nil
	}
	cs := o.ConnString
	cred := options.Credential{
		Username: o.Auth.Username, Password: o.Auth.Password,
		AuthSource: o.AuthenticationDatabase(), AuthMechanism: o.Auth.Mechanism,
	}
	switch strings.ToUpper(cs.AuthMechanism) {
	case "MONGODB-AWS", "MONGODB-OIDC":
		cred.Username, cred.AuthSource, cred.AuthMechanism = cs.Username, cs.AuthSource, cs.AuthMechanism
		cred.AuthMechanismProperties = cs.AuthMechanismProperties
	case "GSSAPI":
		cred.AuthMechanismProperties = map[string]string{}
		for k, v := range cs.AuthMechanismProperties {
			cred.AuthMechanismProperties[k] = v
		}
		if o.Kerberos.Service != "" {
			cred.AuthMechanismProperties["SERVICE_NAME"] = o.Kerberos.Service
		}
		if o.Kerberos.ServiceHost != "" {
			cred.AuthMechanismProperties["SERVICE_HOST"] = o.Kerberos.ServiceHost
		}
	}
	if o.Auth.Mechanism == "" && o.Auth.Username == "" {
		// An authentication database alone is nobody's login.
		return nil
	}
	cred.PasswordSet = cred.Password != ""
	opts.SetAuth(cred)
	return nil
}

// ErrFIPS and ErrCRL are what the originals say to options their TLS library cannot do.
var (
	ErrFIPS = errors.New("FIPS mode not supported")
	ErrCRL  = errors.New("CRL files are not supported on this platform")
)
