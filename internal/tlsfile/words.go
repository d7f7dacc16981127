package tlsfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// Explain says what to do about a connection that has failed, if it failed for its encryption; nil otherwise. section names
// the settings, such as store.tls; encrypted says whether TLS was spoken.
func Explain(err error, section string, encrypted bool) error {
	if !encrypted {
		// A server that wants TLS takes our first words for a broken handshake, and hangs up.
		if hungUp(err) {
			return fmt.Errorf("it ends the connection at once: if it wants TLS, set %s.enabled to true (%w)", section, err)
		}
		return nil
	}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	var late net.Error
	switch text := err.Error(); {
	case errors.As(err, &unknown):
		return fmt.Errorf("its certificate is signed by an authority that is not trusted here: set %s.ca_file to the authority's certificate (%w)", section, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("its certificate is valid from %s to %s only: renew it, or set the clocks right (%w)",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339), err)
	case errors.As(err, &name) && names(name.Certificate) == "":
		return fmt.Errorf("its certificate is for no host (it has no subject alternative name): give it one with names, or set %s.ca_file to who "+
			"signed it and %s.verify to ca, which asks for no name (%w)", section, section, err)
	case errors.As(err, &name):
		return fmt.Errorf("its certificate is for %s: use that name in its address, or say it with %s.server_name (%w)",
			names(name.Certificate), section, err)
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate cannot be used (%w)", err)
	case errors.As(err, &record):
		return fmt.Errorf("it does not speak TLS at this address: name the port at which it does, or set %s.enabled to false (%w)", section, err)
	case errors.As(err, &late) && late.Timeout(), errors.Is(err, context.DeadlineExceeded): // it may wait for more of what it does not understand
		return fmt.Errorf("it does not answer: is it running, and does it speak TLS at this address (%s.enabled)? (%w)", section, err)
	case strings.Contains(text, "remote error: tls: "), hungUp(err):
		// In TLS 1.3 the handshake is over before the server says what it does not like; it may only hang up.
		return fmt.Errorf("it does not take us: it may want a certificate of ours, signed by an authority that it trusts and valid now: "+
			"set %s.certificate_file and key_file (%w)", section, err)
	}
	return nil
}

// hungUp tells whether the other side has ended the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// names are those that a certificate is for.
func names(c *x509.Certificate) string {
	list := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	return strings.Join(list, ", ")
}
