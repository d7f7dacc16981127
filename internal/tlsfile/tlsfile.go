// Package tlsfile makes TLS configurations of the files that settings name. Files change while the program runs, for
// certificates run out: whoever holds a configuration loads it again and keeps the former one if that fails. Nothing here
// logs, or falls back to a connection in plain.
package tlsfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Client says how a server is spoken to. The zero value is: in plain.
type Client struct {
	Enabled         bool   // speak TLS, 1.2 or later
	CAFile          string // PEM: the authorities whose certificates count; empty: those that the system trusts
	CertificateFile string // PEM: our own certificate, for a server that wants one, with those that it was signed by; empty: none
	KeyFile         string // PEM: its key
	ServerName      string // that the server's certificate must have; empty: the host of its address
	Verify          string // VerifyFull, or VerifyCA; empty: VerifyFull
}

// What is verified of a server's certificate. There is no way to verify nothing: a certificate that signed itself can be
// its own CAFile.
const (
	VerifyFull = "full" // who signed it, and its name
	VerifyCA   = "ca"   // who signed it, one of CAFile: for certificates without a name that could be compared
)

// Validate says what is wrong with the settings of a section, such as store.tls; nil if nothing is. It reads no file.
func (o *Client) Validate(section string) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(section+"."+format, args...))
		}
	}
	given := o.CAFile != "" || o.CertificateFile != "" || o.KeyFile != "" || o.ServerName != "" || o.Verify == VerifyCA
	check(o.Enabled || !given, "enabled is false, and other settings of %s are given: set it to true, or leave them out", section)
	check((o.CertificateFile == "") == (o.KeyFile == ""), "certificate_file and key_file belong together: give both or none")
	check(o.Verify == "" || o.Verify == VerifyFull || o.Verify == VerifyCA, "verify must be full or ca, not %q", o.Verify)
	check(o.Verify != VerifyCA || o.CAFile != "", "verify ca needs ca_file: without a name, any certificate of a public authority would do")
	return errors.Join(errs...)
}

// Files are those that are read.
func (o *Client) Files() []string { return named(o.CAFile, o.CertificateFile, o.KeyFile) }

func named(files ...string) (list []string) {
	for _, file := range files {
		if file != "" {
			list = append(list, file)
		}
	}
	return list
}

// Load reads the files. It returns nil where no TLS is spoken.
func (o *Client) Load() (*tls.Config, error) {
	if !o.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CAFile != "" {
		var err error
		if c.RootCAs, err = authorities(o.CAFile); err != nil {
			return nil, fmt.Errorf("ca_file %s: %w", o.CAFile, err)
		}
	}
	if o.CertificateFile != "" {
		pair, err := loadPair(o.CertificateFile, o.KeyFile)
		if err != nil {
			return nil, err
		}
		// Whatever authorities the server names: it says itself what it does not like about the certificate.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	if o.Verify == VerifyCA {
		c.InsecureSkipVerify = true // by Go, which would want a name
		c.VerifyConnection = signedBy(c.RootCAs)
	}
	return c, nil
}

// signedBy verifies who signed a server's certificate, and when it is valid.
func signedBy(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		between := x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
		return err
	}
}

// fileMax bounds a file of certificates: all that a system trusts are a quarter of it.
const fileMax = 1 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, plain(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err == nil && len(b) > fileMax {
		err = fmt.Errorf("is larger than %d bytes", fileMax)
	}
	return b, plain(err)
}

// plain is an error of a file without the file's name, which the caller has.
func plain(err error) error {
	var e *os.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func authorities(path string) (*x509.CertPool, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("holds no certificate in PEM (a block that begins with BEGIN CERTIFICATE)")
	}
	return pool, nil
}

// At is a configuration for the server at addr, host:port: its certificate must have the name of the host, unless c asks
// for another name. c stays as it is.
func At(c *tls.Config, addr string) *tls.Config {
	if c.ServerName != "" {
		return c
	}
	c = c.Clone()
	if c.ServerName = addr; addr != "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			c.ServerName = host
		}
	}
	return c
}

// Dialer returns a function that makes connections under the configuration that secure gives at that moment; the
// handshake is part of the timeout. keepAlive watches connections at rest.
func Dialer(timeout time.Duration, secure func() *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: timeout, KeepAliveConfig: keepAlive}, Config: At(secure(), addr)}
		return d.DialContext(ctx, network, addr)
	}
}
