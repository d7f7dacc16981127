package tlsfile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Server is the certificate of a listener. The zero value is: none, the listener speaks in plain.
type Server struct {
	CertificateFile string // PEM: the certificate, and behind it those that it was signed by
	KeyFile         string // PEM
}

// On tells whether the listener speaks TLS.
func (o *Server) On() bool { return o.CertificateFile != "" }

// Validate says what is wrong with the settings of a section, such as gateway.tls; nil if nothing is. It reads no file.
func (o *Server) Validate(section string) error {
	if (o.CertificateFile == "") != (o.KeyFile == "") {
		return fmt.Errorf("%s.certificate_file and key_file belong together: give both or none", section)
	}
	return nil
}

// Files are those that are read.
func (o *Server) Files() []string { return named(o.CertificateFile, o.KeyFile) }

// Load reads the certificate. It returns nil where no TLS is spoken.
func (o *Server) Load() (*tls.Certificate, error) {
	if !o.On() {
		return nil, nil
	}
	return loadPair(o.CertificateFile, o.KeyFile)
}

// Known is how the listener is reached by a program that has the certificate's file: whatever name it is called by, it must
// show this certificate, or one that the same authority has signed, if the file names that.
func (o *Server) Known() (*tls.Config, error) {
	if !o.On() {
		return nil, nil
	}
	return (&Client{Enabled: true, CAFile: o.CertificateFile, Verify: VerifyCA}).Load()
}

// Listen makes l a listener that speaks TLS, 1.2 or later, and HTTP/1.1 over it. certificate is asked at every handshake,
// and may answer another one each time.
func Listen(l net.Listener, certificate func() *tls.Certificate) net.Listener {
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate(), nil }})
}

// loadPair reads a certificate and its key.
func loadPair(certificateFile, keyFile string) (*tls.Certificate, error) {
	certificate, err := readFile(certificateFile)
	if err != nil {
		return nil, fmt.Errorf("certificate_file %s: %w", certificateFile, err)
	}
	key, err := readFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("key_file %s: %w", keyFile, err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("certificate_file %s and key_file %s are no pair: %w", certificateFile, keyFile, err)
	}
	return &pair, nil
}

// Expired says that a certificate is not valid at now; nil if it is.
func Expired(c *tls.Certificate, now time.Time) error {
	switch {
	case c == nil || c.Leaf == nil:
		return nil
	case now.After(c.Leaf.NotAfter):
		return errors.New("the certificate expired at " + c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.Leaf.NotBefore):
		return errors.New("the certificate is not valid before " + c.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
