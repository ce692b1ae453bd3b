package tool

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

// conflict is the originals' error for a flag that contradicts the connection string.
func conflict(option, inURI, inFlag, flag string) error {
	return fmt.Errorf("Invalid Options: Cannot specify different %s in connection URI and command-line option %#q was specified in the URI and %#q was specified in the %s option", //nolint:staticcheck // the originals' text
		option, inURI, inFlag, flag)
}

// normalize makes flags and connection string say the same: what one is silent about is
// taken from the other, a contradiction is an error.
func (o *Options) normalize() error {
	if o.URI.ConnectionString == "" {
		_, o.ReplicaSetName = SplitHostArg(o.Connection.Host)
		u := buildURI(o.Connection.Host, o.Connection.Port)
		cs, err := connstring.Parse(u)
		if err != nil {
			return fmt.Errorf("error parsing URI from %v: %v", u, err)
		}
		o.URI.ConnectionString = cs.String()
	}
	cs, err := connstring.Parse(o.URI.ConnectionString)
	if err != nil {
		return err
	}
	o.ConnString = cs
	for _, merge := range []func(*connstring.ConnString) error{
		o.mergeHosts, o.mergeTimeouts, o.mergeAuth, o.mergeNamespace, o.mergeSet, o.mergeSSL, o.mergeMechanism,
	} {
		if err := merge(cs); err != nil {
			return err
		}
	}
	if err := o.askPasswords(); err != nil {
		return err
	}
	if err := cs.Validate(); err != nil {
		return fmt.Errorf("connection string failed validation: %w", err)
	}
	if !cs.LoadBalanced {
		o.Direct = o.ReplicaSetName == "" || o.Direct
	}
	return nil
}

// SplitHostArg takes --host apart: "set/host1,host2:port" gives the hosts and the set.
func SplitHostArg(s string) (hosts []string, set string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		set, s = s[:i], s[i+1:]
		if s == "" {
			return []string{""}, set
		}
	}
	return strings.Split(s, ","), set
}

// withPort gives every host without a port this one.
func withPort(hosts []string, port string) {
	if port == "" {
		return
	}
	for i, h := range hosts {
		if !strings.Contains(h, ":") {
			hosts[i] = h + ":" + port
		}
	}
}

func buildURI(host, port string) string {
	hosts, set := SplitHostArg(host)
	for i, h := range hosts {
		if h == "" {
			hosts[i] = "localhost"
		}
	}
	withPort(hosts, port)
	u := "mongodb://" + strings.Join(hosts, ",") + "/"
	if set != "" {
		u += "?replicaSet=" + set
	}
	return u
}

func (o *Options) mergeHosts(cs *connstring.ConnString) error {
	c := &o.Connection
	all := strings.Join(cs.Hosts, ",")
	if c.Port != "" {
		for _, h := range cs.Hosts {
			if strings.Contains(h, ":") && strings.Split(h, ":")[1] != c.Port {
				return conflict("port", all, c.Port, "--port")
			}
		}
		withPort(cs.Hosts, c.Port)
	}
	switch {
	case c.Host != "":
		var hosts []string
		hosts, o.ReplicaSetName = SplitHostArg(c.Host)
		withPort(hosts, c.Port)
		if !sameSet(cs.Hosts, hosts) {
			return conflict("host", strings.Join(cs.Hosts, ","), c.Host, "--host")
		}
	case len(cs.Hosts) > 0:
		if cs.ReplicaSet != "" {
			c.Host = cs.ReplicaSet + "/"
		}
		var names []string
		ok := false
		for _, h := range cs.Hosts {
			name, port, has := strings.Cut(h, ":")
			names = append(names, name)
			if has && c.Port == "" {
				c.Port = port
			}
			ok = ok || !has || port == c.Port
		}
		if !ok {
			return conflict("port", strings.Join(cs.Hosts, ","), c.Port, "--port")
		}
		c.Host += strings.Join(names, ",")
	}
	if len(cs.Hosts) > 1 && cs.LoadBalanced {
		return errors.New("loadBalanced cannot be set to true if multiple hosts are specified")
	}
	return nil
}

func sameSet(a, b []string) bool {
	in := func(x []string, s string) bool { return slices.Contains(x, s) }
	for _, s := range a {
		if !in(b, s) {
			return false
		}
	}
	for _, s := range b {
		if !in(a, s) {
			return false
		}
	}
	return true
}

func (o *Options) mergeTimeouts(cs *connstring.ConnString) error {
	c := &o.Connection
	for _, t := range []struct {
		flag   *int
		unset  int // the flag's default, which cannot be told from silence
		uri    *time.Duration
		set    *bool
		name   string
		option string
	}{
		{&c.ServerSelectionTimeout, 0, &cs.ServerSelectionTimeout, &cs.ServerSelectionTimeoutSet, "serverSelectionTimeout", "--serverSelectionTimeout"},
		{&c.Timeout, 3, &cs.ConnectTimeout, &cs.ConnectTimeoutSet, "connectTimeout", "--dialTimeout"},
		{&c.SocketTimeout, 0, &cs.SocketTimeout, &cs.SocketTimeoutSet, "SocketTimeout", "--socketTimeout"},
	} {
		secs := int(*t.uri / time.Second)
		switch {
		case *t.flag != t.unset && *t.set && time.Duration(*t.flag)*time.Second != *t.uri:
			return conflict(t.name, strconv.Itoa(secs), strconv.Itoa(*t.flag), t.option)
		case *t.flag != t.unset:
			*t.uri, *t.set = time.Duration(*t.flag)*time.Second, true
		case *t.set:
			*t.flag = secs
		}
	}
	if len(cs.Compressors) == 0 {
		cs.Compressors = strings.Split(c.Compressors, ",")
		return nil
	}
	inURI := strings.Join(cs.Compressors, ",")
	if c.Compressors != "none" && c.Compressors != inURI {
		return conflict("compressors", inURI, c.Compressors, "--compressors")
	}
	c.Compressors = inURI
	return nil
}

// mergeString is the rule for one string: equal, or one of them silent.
func mergeString(flag, uri *string, name, option string) error {
	switch {
	case *flag != "" && *uri != "" && *flag != *uri:
		return conflict(name, *uri, *flag, option)
	case *flag != "":
		*uri = *flag
	default:
		*flag = *uri
	}
	return nil
}

// mergeSetString is mergeString where the connection string says whether it spoke.
func mergeSetString(flag, uri *string, set *bool, name, option string) error {
	switch {
	case *flag != "" && *set && *flag != *uri:
		return conflict(name, *uri, *flag, option)
	case *flag != "":
		*uri, *set = *flag, true
	case *set:
		*flag = *uri
	}
	return nil
}

func (o *Options) mergeAuth(cs *connstring.ConnString) error {
	a := &o.Auth
	if err := mergeString(&a.Username, &cs.Username, "username", "--username"); err != nil {
		return err
	}
	if a.Password != "" && cs.PasswordSet && a.Password != cs.Password {
		return errors.New("Invalid Options: Cannot specify different password in connection URI and command-line option") //nolint:staticcheck // the originals' text
	}
	if err := mergeSetString(&a.Password, &cs.Password, &cs.PasswordSet, "password", "--password"); err != nil {
		return err
	}
	if err := mergeSetString(&a.Source, &cs.AuthSource, &cs.AuthSourceSet, "authSource", "--authenticationDatabase"); err != nil {
		return err
	}
	return mergeString(&a.Mechanism, &cs.AuthMechanism, "authMechanism", "--authenticationMechanism")
}

func (o *Options) mergeNamespace(cs *connstring.ConnString) error {
	return mergeString(&o.Namespace.DB, &cs.Database, "database", "--db")
}

func (o *Options) mergeSet(cs *connstring.ConnString) error {
	if o.ReplicaSetName != "" && cs.ReplicaSet != "" {
		if o.ReplicaSetName != cs.ReplicaSet {
			return conflict("replica set name", cs.ReplicaSet, o.Connection.Host, "--host")
		}
		if cs.LoadBalanced {
			return errors.New("loadBalanced cannot be set to true if the replica set name is specified")
		}
	}
	if o.ReplicaSetName != "" {
		cs.ReplicaSet = o.ReplicaSetName
	} else {
		o.ReplicaSetName = cs.ReplicaSet
	}
	o.Direct = cs.DirectConnection || cs.Connect == connstring.SingleConnect
	if o.Direct && cs.LoadBalanced {
		return errors.New("loadBalanced cannot be set to true if the direct connection option is specified")
	}
	if cs.RetryWritesSet {
		o.RetryWrites = &cs.RetryWrites
	}
	return nil
}

func (o *Options) mergeSSL(cs *connstring.ConnString) error {
	s := &o.SSL
	if cs.SSLSet {
		if s.UseSSL && !cs.SSL {
			return conflict("ssl", "false", "true", "--ssl")
		}
		s.UseSSL = cs.SSL
	} else if s.UseSSL {
		cs.SSL, cs.SSLSet = true, true
	}
	if err := mergeSetString(&s.SSLCAFile, &cs.SSLCaFile, &cs.SSLCaFileSet, "sslCAFile", "--sslCAFile"); err != nil {
		return err
	}
	if err := mergeSetString(&s.SSLPEMKeyFile, &cs.SSLClientCertificateKeyFile, &cs.SSLClientCertificateKeyFileSet,
		"sslClientCertificateKeyFile", "--sslPEMKeyFile"); err != nil {
		return err
	}
	if cs.SSLClientCertificateKeyPasswordSet && cs.SSLClientCertificateKeyPassword != nil {
		if in := cs.SSLClientCertificateKeyPassword(); s.SSLPEMKeyPassword == "" {
			s.SSLPEMKeyPassword = in
		} else if s.SSLPEMKeyPassword != in {
			// The originals print both passwords here; a secret is not printed.
			return errors.New("Invalid Options: Cannot specify different sslPEMKeyFilePassword in connection URI and command-line option") //nolint:staticcheck // the originals' form
		}
	}
	insecure := s.SSLAllowInvalidCert || s.SSLAllowInvalidHost || s.TLSInsecure
	if cs.SSLInsecureSet {
		if insecure && !cs.SSLInsecure {
			return conflict("sslInsecure or tlsInsecure", "false", "true", "--sslAllowInvalidCert or --sslAllowInvalidHost")
		}
		s.TLSInsecure = cs.SSLInsecure
	} else if insecure {
		cs.SSLInsecure, cs.SSLInsecureSet = true, true
	}
	return nil
}

func (o *Options) mergeMechanism(cs *connstring.ConnString) error {
	var key, name, option string
	var flag *string
	switch strings.ToLower(cs.AuthMechanism) {
	case "gssapi":
		key, name, option, flag = "SERVICE_NAME", "Kerberos service name", "--gssapiServiceName", &o.Kerberos.Service
	case "mongodb-aws":
		key, name, option, flag = "AWS_SESSION_TOKEN", "AWS Session Token", "--awsSessionToken", &o.Auth.AWSSessionToken
	default:
		return nil
	}
	in := cs.AuthMechanismProperties[key]
	if *flag != "" && cs.AuthMechanismPropertiesSet && *flag != in {
		return conflict(name, in, *flag, option)
	}
	if *flag != "" && !cs.AuthMechanismPropertiesSet {
		if cs.AuthMechanismProperties == nil {
			cs.AuthMechanismProperties = map[string]string{}
		}
		cs.AuthMechanismProperties[key], cs.AuthMechanismPropertiesSet = *flag, true
	} else if *flag == "" {
		*flag = in
	}
	return nil
}
