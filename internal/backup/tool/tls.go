package tool

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/youmark/pkcs8"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// setTLS makes the TLS configuration of the merged options.
func (o *Options) setTLS(opts *options.ClientOptions) error {
	s, cs := &o.SSL, o.ConnString
	if s.SSLFipsMode {
		return ErrFIPS
	}
	if s.SSLCRLFile != "" {
		return ErrCRL
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.SSLAllowInvalidCert || s.SSLAllowInvalidHost || s.TLSInsecure {
		cfg.InsecureSkipVerify = true //nolint:gosec // it was asked for
	}
	var files []string
	switch {
	case s.SSLPEMKeyFile != "":
		files = []string{s.SSLPEMKeyFile}
	case cs.SSLCertificateFileSet || cs.SSLPrivateKeyFileSet:
		files = []string{cs.SSLPrivateKeyFile, cs.SSLCertificateFile}
	}
	subject := ""
	if files != nil {
		cert, name, err := clientCertificate(files, s.SSLPEMKeyPassword)
		if err != nil {
			return fmt.Errorf("error configuring client, can't load client certificate: %v", err)
		}
		cfg.Certificates, subject = []tls.Certificate{cert}, name
	}
	if s.SSLCAFile != "" {
		pool := x509.NewCertPool()
		b, err := os.ReadFile(s.SSLCAFile)
		if err == nil && !pool.AppendCertsFromPEM(b) {
			err = fmt.Errorf("SSL trusted server certificates file does not contain any valid certificates. File: `%v`", s.SSLCAFile)
		}
		if err != nil {
			return fmt.Errorf("error configuring client, can't load CA file: %v", err)
		}
		cfg.RootCAs = pool
	}
	if a := opts.Auth; a != nil && strings.EqualFold(a.AuthMechanism, "MONGODB-X509") && a.Username == "" {
		a.Username = subject
	}
	opts.SetTLSConfig(cfg)
	return nil
}

// clientCertificate reads certificate and key, in one file or two, and returns them with
// the subject in the order the server has it in.
func clientCertificate(files []string, password string) (tls.Certificate, string, error) {
	var none tls.Certificate
	var data []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return none, "", err
		}
		data = append(append(data, b...), '\n')
	}
	var certs, keys bytes.Buffer
	var leaf []byte
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
			if leaf == nil {
				leaf = block.Bytes
			}
			if err := pem.Encode(&certs, block); err != nil {
				return none, "", err
			}
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			plain, err := decryptKey(block, password)
			if err != nil {
				return none, "", err
			}
			if err := pem.Encode(&keys, plain); err != nil {
				return none, "", err
			}
		}
	}
	if leaf == nil {
		return none, "", errors.New("failed to find CERTIFICATE")
	}
	if keys.Len() == 0 {
		return none, "", errors.New("failed to find PRIVATE KEY")
	}
	cert, err := tls.X509KeyPair(certs.Bytes(), keys.Bytes())
	if err != nil {
		return none, "", err
	}
	c, err := x509.ParseCertificate(leaf)
	if err != nil {
		return none, "", err
	}
	pairs := strings.Split(c.Subject.String(), ",")
	slices.Reverse(pairs)
	return cert, strings.Join(pairs, ","), nil
}

// decryptKey returns the key's block in the clear.
func decryptKey(b *pem.Block, password string) (*pem.Block, error) {
	old := x509.IsEncryptedPEMBlock(b) //lint:ignore SA1019 such keys are in use
	pk8 := strings.Contains(b.Type, "ENCRYPTED PRIVATE KEY")
	if !old && !pk8 {
		return b, nil
	}
	if password == "" {
		return nil, errors.New("no password provided to decrypt private key")
	}
	if old {
		der, err := x509.DecryptPEMBlock(b, []byte(password)) //lint:ignore SA1019 such keys are in use
		return &pem.Block{Type: b.Type, Bytes: der}, err
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(b.Bytes, []byte(password))
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, err
}
