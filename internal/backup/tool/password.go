package tool

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/term"

	"go.yaml.in/yaml/v3"
)

// readConfig reads the secrets of a --config file. What stands on the command line wins.
func (o *Options) readConfig(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("error opening file with --config: %w", err)
	}
	var c struct { // the decoder's errors show these names, which are the original's
		Password            string `yaml:"password"`
		ConnectionString    string `yaml:"uri"`
		SSLPEMKeyPassword   string `yaml:"sslPEMKeyPassword"`
		DestinationPassword string `yaml:"destinationPassword"`
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("error parsing config file %s: %w", path, err)
	}
	if !o.IsSet("password") {
		o.Auth.Password = c.Password
	}
	if !o.IsSet("uri") {
		o.URI.ConnectionString = c.ConnectionString
	}
	if !o.IsSet("sslPEMKeyPassword") {
		o.SSL.SSLPEMKeyPassword = c.SSLPEMKeyPassword
	}
	return nil
}

// askPasswords asks for the passwords that are needed and were not given.
func (o *Options) askPasswords() error {
	without := []string{"MONGODB-X509", "GSSAPI", "MONGODB-OIDC"}
	if o.Auth.Username != "" && o.Auth.Password == "" && !slices.Contains(without, o.Auth.Mechanism) {
		p, err := o.prompt("mongo user")
		if err != nil {
			return fmt.Errorf("error reading password: %v", err)
		}
		o.Auth.Password, o.ConnString.Password = p, p
	}
	if o.SSL.SSLPEMKeyFile == "" || o.SSL.SSLPEMKeyPassword != "" {
		return nil
	}
	encrypted, err := keyIsEncrypted(o.SSL.SSLPEMKeyFile)
	if err != nil {
		return fmt.Errorf("error determining whether client cert needs password: %v", err)
	}
	if encrypted {
		if o.SSL.SSLPEMKeyPassword, err = o.prompt("client certificate"); err != nil {
			return fmt.Errorf("error reading password: %v", err)
		}
	}
	return nil
}

func keyIsEncrypted(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return false, nil
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" {
			return true, nil
		}
	}
}

// prompt asks for a password: without echo on a terminal, else a line of standard input.
func (o *Options) prompt(what string) (string, error) {
	in, out := o.Config.Stdin, o.Config.Stderr
	if in == nil {
		in = os.Stdin
	}
	if out == nil {
		out = os.Stderr
	}
	ask := func() { fmt.Fprintf(out, "Enter password for %s:", what) }
	defer fmt.Fprintln(out)
	if term.IsTerminal(int(in.Fd())) {
		ask()
		b, err := term.ReadPassword(int(in.Fd()))
		return string(b), err
	}
	NewLog(out, o.LogLevel()).Always("reading password from standard input")
	ask()
	return readPassword(in)
}

// readPassword reads byte by byte, so that what follows the line stays unread: an archive
// may come over the same pipe.
func readPassword(r io.Reader) (string, error) {
	var pass []byte
	var ch [1]byte
	for {
		if _, err := io.ReadFull(r, ch[:]); err == io.EOF {
			return string(pass), nil
		} else if err != nil {
			return "", err
		}
		switch ch[0] {
		case 8, 127: // backspace, delete
			if len(pass) > 0 {
				pass = pass[:len(pass)-1]
			}
		case '\r', '\n', 3, 4: // end of line, interrupt, end of transmission
			return string(pass), nil
		case 0:
		default:
			pass = append(pass, ch[0])
		}
	}
}
