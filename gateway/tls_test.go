package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/client"
	"sluice/internal/certtest"
	"sluice/internal/tlsfile"
)

// secured is a world whose listener speaks TLS.
type secured struct {
	*world
	authority   *certtest.Authority
	certificate atomic.Pointer[tls.Certificate]
}

func newSecured(t *testing.T, tweak ...func(*Options)) *secured {
	t.Helper()
	s := &secured{authority: certtest.New(t)}
	s.renew(t)
	s.world = newWorld(t, append(tweak, func(o *Options) {
		o.TLS, o.Certificate = tlsfile.Server{CertificateFile: "read by others", KeyFile: "read by others"}, s.certificate.Load
	})...)
	return s
}

func (s *secured) renew(t *testing.T) {
	t.Helper()
	p := s.authority.Sign("gateway", certtest.Leaf{})
	c, err := (&tlsfile.Server{CertificateFile: p.CertificateFile, KeyFile: p.KeyFile}).Load()
	must(t, err)
	s.certificate.Store(c)
}

// dial makes a connection with what a client wants of it beside the authority.
func (s *secured) dial(want func(*tls.Config)) (*tls.Conn, error) {
	config := s.authority.Trusting()
	if want != nil {
		want(config)
	}
	return tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", s.gateway.Addr(), config)
}

// served asks for something over a connection, and is answered.
func served(t *testing.T, c net.Conn) {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err := io.WriteString(c, "GET /v1/offers HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	readAnswer(t, res).is(200, "")
}

// The listener speaks TLS 1.2 or later and HTTP/1.1, shows whichever certificate there is at the handshake, and answers nobody
// who does not.
func TestTLSListener(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	serial := func(want func(*tls.Config)) string {
		t.Helper()
		c, err := s.dial(want)
		must(t, err)
		defer func() { _ = c.Close() }()
		served(t, c)
		if p := c.ConnectionState().NegotiatedProtocol; p != "" && p != "http/1.1" {
			t.Errorf("protocol %s", p)
		}
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial(nil)
	if again := serial(func(c *tls.Config) { c.NextProtos, c.MaxVersion = []string{"h2", "http/1.1"}, tls.VersionTLS12 }); again != first {
		t.Errorf("certificate %s, then %s", first, again)
	}
	s.renew(t)
	if second := serial(nil); second == first {
		t.Error("the former certificate is shown")
	}
	for what, want := range map[string]func(*tls.Config){
		"TLS 1.1":     func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"HTTP/2 only": func(c *tls.Config) { c.NextProtos = []string{"h2"} },
		"a stranger":  func(c *tls.Config) { c.RootCAs = certtest.New(t).Trusting().RootCAs },
	} {
		if c, err := s.dial(want); err == nil {
			t.Errorf("%s: connected with %+v", what, c.ConnectionState())
		}
	}
	if res, err := http.Get("http://" + s.gateway.Addr() + "/v1/offers"); err == nil {
		t.Errorf("in plain: %s", res.Status)
	}
}

// The Go client places an order in TLS; where it does not trust the server it has sent nothing, and knows it.
func TestTLSClient(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	offer := s.offer()
	place := func(config *tls.Config) error {
		c, err := client.New(client.Options{Base: "https://" + s.gateway.Addr(), TLS: config, Patience: 5 * time.Second,
			Token: func(context.Context) (string, error) { return tokenOf(42), nil }})
		must(t, err)
		defer c.Close()
		_, err = c.Place(t.Context(), &client.OrderRequest{Items: []client.Line{{OfferID: fmt.Sprint(offer), Quantity: 1}}})
		return err
	}
	must(t, place(s.authority.Trusting()))
	if err := place(certtest.New(t).Trusting()); err == nil || strings.Contains(err.Error(), client.ErrUnknown.Error()) {
		t.Errorf("with another authority: %v", err)
	}
}

// In TLS too a client that sends all of a request that is too large has its answer; one connection too many is closed at once,
// and a close of the gateway answers who has asked.
func TestTLSConnections(t *testing.T) {
	t.Parallel()
	s := newSecured(t, func(o *Options) { o.ConnectionsMax = 1 })
	c, err := s.dial(nil)
	must(t, err)
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	if other, err := s.dial(nil); err == nil {
		t.Errorf("one connection too many: %+v", other.ConnectionState())
	}
	if n := s.gateway.Stats().Refused["overloaded"]; n != 1 {
		t.Errorf("%d connections were too many", n)
	}
	_, err = io.WriteString(c, post(BatchBodyMax+1, strings.Repeat("x", BatchBodyMax+1)))
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	readAnswer(t, res).is(413, "body_too_large")
	_ = c.Close()

	await(t, "room again", func() bool { c, err = s.dial(nil); return err == nil })
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(c, "GET /v1/offers HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	res, err = http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	readAnswer(t, res).is(200, "")
	must(t, s.gateway.Close(context.Background()))
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the close: %d bytes, %v", n, err)
	}
}

// An address that takes all its connections, and one more, and says nothing over any, keeps neither others from being served nor
// the gateway from closing.
func TestTLSSilentClients(t *testing.T) {
	t.Parallel()
	s := newSecured(t, func(o *Options) { o.ConnectionsPerIPMax, o.ReadTimeout = 3, 2*time.Second })
	for range 4 {
		c, err := net.Dial("tcp", s.gateway.Addr())
		must(t, err)
		defer func() { _ = c.Close() }()
	}
	await(t, "the one too many", func() bool { return s.gateway.Stats().Refused["rate_limited"] == 1 })
	other := net.Dialer{Timeout: 20 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := tls.DialWithDialer(&other, "tcp", s.gateway.Addr(), s.authority.Trusting())
	must(t, err)
	served(t, c)
	_ = c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(t, s.gateway.Close(ctx))
}

// A connection that fasthttp answers itself, for it has no worker, costs the accepting goroutine no time in TLS either.
func TestTLSAnswerWithoutAHandshake(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	silent, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer func() { _ = silent.Close() }()
	c, err := tlsfile.Listen(&boundedListener{Listener: l, g: s.gateway, of: map[uint64]int{}}, s.certificate.Load).Accept()
	must(t, err)
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\n\r\n")
		written <- err
	}()
	select {
	case err := <-written:
		if err == nil {
			t.Error("it is written without a handshake")
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for the client")
	}
	_ = c.Close()
}
