package backup

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/dump"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its own certificate
}

func newAuthority(t testing.TB, name string) *authority {
	a := &authority{t: t, key: newKey(t)}
	der := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.key)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, a.file, encodePEM("CERTIFICATE", der))
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (a *authority) sign(c *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// server is a certificate for hosts and addresses.
func (a *authority) server(names []string, ips ...net.IP) tls.Certificate {
	key := newKey(a.t)
	der := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: names, IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client is a file with a certificate and its key, encrypted if there is a password.
func (a *authority) client(password string) string {
	key := newKey(a.t)
	der := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "backup", Organization: []string{"Shop"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, key)
	var opts *pkcs8.Opts
	kind := "PRIVATE KEY"
	if password != "" {
		opts, kind = pkcs8.DefaultOpts, "ENCRYPTED PRIVATE KEY"
	}
	plain, err := pkcs8.MarshalPrivateKey(key, []byte(password), opts)
	if err != nil {
		a.t.Fatal(err)
	}
	file := filepath.Join(a.t.TempDir(), "client.pem")
	writeFile(a.t, file, append(encodePEM("CERTIFICATE", der), encodePEM(kind, plain)...))
	return file
}

// tlsProxy takes TLS connections and hands their bytes to a server. It returns its port.
func tlsProxy(t testing.TB, uri string, cfg *tls.Config) string {
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", u.Host)
				if err != nil {
					return
				}
				defer s.Close()
				go func() {
					defer s.Close()
					_, _ = io.Copy(s, c)
				}()
				_, _ = io.Copy(c, s)
			}()
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestTLS dumps and restores through TLS, in every way that it can be asked for, and sees
// that a certificate which should not be trusted is not.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := cairntest.Start(t, cairntest.ReplSet("rs"))
	c := connect(t, server)
	fill(t, c, "d", "c", 2000)
	want := state(t, c, "d")
	ca, other := newAuthority(t, "CA"), newAuthority(t, "Another CA")
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	loopback := net.IPv4(127, 0, 0, 1)
	plain := tlsProxy(t, server, &tls.Config{Certificates: []tls.Certificate{ca.server(nil, loopback)}})
	both := tlsProxy(t, server, &tls.Config{Certificates: []tls.Certificate{ca.server(nil, loopback)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients})
	elsewhere := tlsProxy(t, server, &tls.Config{Certificates: []tls.Certificate{ca.server([]string{"db.example.org"})}})
	pem, secret, foreign := ca.client(""), ca.client("geheim"), other.client("")

	for _, x := range []struct {
		name string
		port string
		args string
		opts string // of the connection string
		err  string // "": it works
	}{
		{"ssl", plain, "--ssl --sslCAFile " + ca.file, "", ""},
		{"tls", plain, "--tls --tlsCAFile " + ca.file, "", ""},
		{"connection string", plain, "", "tls=true&tlsCAFile=" + url.QueryEscape(ca.file), ""},
		{"old connection string", plain, "--sslCAFile " + ca.file, "ssl=true", ""},
		{"no TLS", plain, "", "", "server selection error"},
		{"unknown CA", plain, "--ssl", "", "certificate signed by unknown authority"},
		{"wrong CA", plain, "--ssl --sslCAFile " + other.file, "", "certificate signed by unknown authority"},
		{"wrong CA in the string", plain, "", "tls=true&tlsCAFile=" + url.QueryEscape(other.file), "certificate signed by unknown authority"},
		{"wrong CA allowed", plain, "--ssl --sslCAFile " + other.file + " --sslAllowInvalidCertificates", "", ""},
		{"any certificate", plain, "--ssl --tlsInsecure", "", ""},
		{"any certificate, string", plain, "", "tls=true&tlsInsecure=true", ""},
		{"no CA file", plain, "--ssl --sslCAFile " + ca.file + ".none", "", "can't load CA file"},
		{"empty CA file", plain, "--ssl --sslCAFile /dev/null", "", "does not contain any valid certificates"},
		{"other host", elsewhere, "--ssl --sslCAFile " + ca.file, "", "doesn't contain any IP SANs"},
		{"other host allowed", elsewhere, "--ssl --sslCAFile " + ca.file + " --sslAllowInvalidHostnames", "", ""},
		{"client certificate", both, "--ssl --sslCAFile " + ca.file + " --sslPEMKeyFile " + pem, "", ""},
		{"client certificate, tls", both, "--tls --tlsCAFile " + ca.file + " --tlsCertificateKeyFile " + pem, "", ""},
		{"client certificate, string", both, "", "tls=true&tlsCAFile=" + url.QueryEscape(ca.file) + "&tlsCertificateKeyFile=" + url.QueryEscape(pem), ""},
		{"with a password", both, "--ssl --sslCAFile " + ca.file + " --sslPEMKeyFile " + secret + " --sslPEMKeyPassword geheim", "", ""},
		{"with a wrong password", both, "--ssl --sslCAFile " + ca.file + " --sslPEMKeyFile " + secret + " --sslPEMKeyPassword falsch", "", "can't load client certificate"},
		{"no client certificate", both, "--ssl --sslCAFile " + ca.file, "", "certificate required"},
		{"foreign client certificate", both, "--ssl --sslCAFile " + ca.file + " --sslPEMKeyFile " + foreign, "", "server selection error"},
		{"compressed inside", plain, "--ssl --sslCAFile " + ca.file + " --compressors snappy", "", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"--uri", "mongodb://127.0.0.1:" + x.port + "/?directConnection=true&serverSelectionTimeoutMS=1500"}
			if x.opts != "" {
				args[1] += "&" + x.opts
			}
			args = append(args, strings.Fields(x.args)...)
			var out bytes.Buffer
			err := dumpArgs(&out, append(args, "-d", "d", "-c", "c", "-o", "-")...)
			if x.err != "" {
				if err == nil || !strings.Contains(err.Error(), x.err) {
					t.Errorf("the dump ended with %v, want %q", err, x.err)
				}
				if out.Len() > 0 {
					t.Errorf("%d bytes came through", out.Len())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkIDs(t, out.Bytes(), 2000)
		})
	}

	// The way back.
	target := cairntest.Start(t, cairntest.ReplSet("rs"))
	in := tlsProxy(t, target, &tls.Config{Certificates: []tls.Certificate{ca.server(nil, loopback)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients})
	dir := filepath.Join(t.TempDir(), "dump")
	mustDump(t, server, "-o", dir)
	if log, err := restoreArgs("--uri", "mongodb://127.0.0.1:"+in+"/?directConnection=true", "--ssl", "--sslCAFile", ca.file, "--sslPEMKeyFile", pem, "--dir", dir); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	compare(t, "restored", want, state(t, connect(t, target), "d"))
}

// dumpArgs is a dump by a whole command line.
func dumpArgs(out io.Writer, args ...string) error {
	o, err := dump.ParseOptions(args, false, "test", "")
	if err != nil {
		return err
	}
	_, err = dump.Run(context.Background(), o, tool.NewLog(io.Discard, 0), nil, out)
	return err
}

// TestAuthentication logs in where nobody can log in yet: the mechanism and the user reach
// the server, and its refusal is what the tool says.
func TestAuthentication(t *testing.T) {
	t.Parallel()
	server := cairntest.Start(t)
	ca := newAuthority(t, "CA")
	port := tlsProxy(t, server, &tls.Config{Certificates: []tls.Certificate{ca.server(nil, net.IPv4(127, 0, 0, 1))}})
	pem := ca.client("")
	for _, x := range []struct{ name, uri, args, mechanism, user, want string }{
		{"SCRAM", host(server), "-u ann -p secret --authenticationDatabase admin", "", "ann", "saslStart is not supported by Cairn: access control is not built yet"},
		{"SCRAM-SHA-1", host(server), "-u ann -p secret --authenticationMechanism SCRAM-SHA-1", "SCRAM-SHA-1", "ann", "saslStart is not supported"},
		{"SCRAM in the string", strings.Replace(host(server), "://", "://ann:secret@", 1), "", "", "ann", "saslStart is not supported"},
		{"PLAIN", host(server), "-u ann -p secret --authenticationMechanism PLAIN", "PLAIN", "ann", `using mechanism "PLAIN": (CommandNotSupported)`},
		{"X.509", "mongodb://127.0.0.1:" + port, "--ssl --sslCAFile " + ca.file + " --sslPEMKeyFile " + pem + " --authenticationMechanism MONGODB-X509",
			"MONGODB-X509", "O=Shop,CN=backup", "authenticate is not supported by Cairn"},
	} {
		args := append([]string{"--uri", x.uri}, strings.Fields(x.args)...)
		o, err := dump.ParseOptions(args, false, "test", "")
		if err != nil {
			t.Fatal(err)
		}
		if c, err := o.ClientOptions(); err != nil || c.Auth == nil || c.Auth.AuthMechanism != x.mechanism || c.Auth.Username != x.user {
			t.Errorf("%s: the driver gets %+v, %v", x.name, c.Auth, err)
		}
		dir := t.TempDir()
		derr := dumpArgs(io.Discard, append(args, "-o", filepath.Join(dir, "dump"))...)
		_, rerr := restoreArgs(append(args, "--dir", dir)...)
		for _, err := range []error{derr, rerr} {
			if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", x.name, err)
			}
		}
		if left := regular(t, dir); len(left) > 0 {
			t.Errorf("%s left %q", x.name, left)
		}
	}
}
