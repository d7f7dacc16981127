package tlsfile_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/certtest"
	"sluice/internal/tlsfile"
)

// server speaks TLS with a certificate, and asks clients for one of their authority, if there is one.
func server(t *testing.T, pair certtest.Pair, clients *certtest.Authority) (addr string) {
	t.Helper()
	c, err := tls.LoadX509KeyPair(pair.CertificateFile, pair.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{c}}
	if clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, clients.Trusting().RootCAs
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
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
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// speak makes a connection and has a word answered over it.
func speak(t *testing.T, o *tlsfile.Client, addr string) error {
	t.Helper()
	config, err := o.Load()
	if err != nil {
		t.Fatal(err)
	}
	c, err := tlsfile.Dialer(10*time.Second, func() *tls.Config { return config })(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = c.Write([]byte("x")); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	return err
}

// TestVerification: who signed a certificate, its name and its time count; the name alone can be left out.
func TestVerification(t *testing.T) {
	t.Parallel()
	ours, other := certtest.New(t), certtest.New(t)
	named := server(t, ours.Sign("named", certtest.Leaf{}), nil)
	nameless := server(t, ours.Sign("nameless", certtest.Leaf{Names: []string{}}), nil)
	elsewhere := server(t, ours.Sign("elsewhere", certtest.Leaf{Names: []string{"redis.example"}}), nil)
	expired := server(t, ours.Sign("expired", certtest.Leaf{Expires: time.Now().Add(-time.Minute)}), nil)
	strange := server(t, other.Sign("strange", certtest.Leaf{}), nil)
	closed := server(t, ours.Sign("closed", certtest.Leaf{}), ours)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("-ERR this is no TLS\r\n"))
			_ = c.Close()
		}
	}()
	mine := ours.Sign("mine", certtest.Leaf{})
	foreign := other.Sign("foreign", certtest.Leaf{})
	full := tlsfile.Client{Enabled: true, CAFile: ours.File}
	with := func(change func(*tlsfile.Client)) *tlsfile.Client { o := full; change(&o); return &o }
	byCA := with(func(o *tlsfile.Client) { o.Verify = tlsfile.VerifyCA })
	for _, c := range []struct {
		what string
		o    *tlsfile.Client
		addr string
		want string // of Explain; empty: it is well
	}{
		{"its name", &full, named, ""},
		{"by another name", with(func(o *tlsfile.Client) { o.ServerName = "localhost" }), named, ""},
		{"by a name that it has not", with(func(o *tlsfile.Client) { o.ServerName = "other.example" }), named, "its certificate is for localhost, 127.0.0.1: use"},
		{"another name", &full, elsewhere, "its certificate is for redis.example: use"},
		{"another name, said", with(func(o *tlsfile.Client) { o.ServerName = "redis.example" }), elsewhere, ""},
		{"another name, authority alone", byCA, elsewhere, ""},
		{"no name", &full, nameless, "its certificate is for no host"},
		{"no name, authority alone", byCA, nameless, ""},
		{"expired", &full, expired, "only: renew it"},
		{"expired, authority alone", byCA, expired, "only: renew it"},
		{"a stranger", &full, strange, "signed by an authority that is not trusted here: set x.ca_file"},
		{"a stranger, authority alone", byCA, strange, "signed by an authority that is not trusted here: set x.ca_file"},
		{"the system's authorities", &tlsfile.Client{Enabled: true}, named, "signed by an authority that is not trusted here: set x.ca_file"},
		{"signed by itself", &tlsfile.Client{Enabled: true, CAFile: mine.CertificateFile}, named, "signed by an authority that is not trusted here"},
		{"no certificate of ours", &full, closed, "it does not take us"},
		{"a certificate of ours", with(func(o *tlsfile.Client) { o.CertificateFile, o.KeyFile = mine.CertificateFile, mine.KeyFile }), closed, ""},
		{"a foreign one", with(func(o *tlsfile.Client) { o.CertificateFile, o.KeyFile = foreign.CertificateFile, foreign.KeyFile }), closed, "it does not take us"},
		{"plain", &full, plain.Addr().String(), "it does not speak TLS at this address"},
	} {
		err := speak(t, c.o, c.addr)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: it is spoken to", c.what)
		} else if told := tlsfile.Explain(err, "x", true); told == nil || !strings.Contains(told.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.what, told, c.want)
		}
	}
}

// TestKnownListener: a program that has the certificate's file knows the listener by it, and no other.
func TestKnownListener(t *testing.T) {
	t.Parallel()
	a := certtest.New(t)
	pair, other := a.Sign("ops", certtest.Leaf{Names: []string{"ops.example"}}), a.Sign("other", certtest.Leaf{})
	for file, ok := range map[string]bool{pair.CertificateFile: true, other.CertificateFile: false, a.File: true} {
		config, err := (&tlsfile.Server{CertificateFile: file, KeyFile: "not at hand"}).Known()
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.Dial("tcp", server(t, pair, nil), config)
		if ok != (err == nil) {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]*tlsfile.Client{
		"": {Enabled: true, Verify: "full"},
		"x.enabled is false, and other settings of x are given": {CAFile: "ca"},
		"x.certificate_file and key_file belong together":       {Enabled: true, CertificateFile: "c"},
		`x.verify must be full or ca, not "none"`:               {Enabled: true, Verify: "none"},
		"x.verify ca needs ca_file":                             {Enabled: true, Verify: "ca"},
	} {
		if err := o.Validate("x"); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := (&tlsfile.Server{KeyFile: "k"}).Validate("x"); err == nil {
		t.Error("a key without a certificate was taken")
	}
	a := certtest.New(t)
	pair := a.Sign("a", certtest.Leaf{})
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]*tlsfile.Client{
		"ca_file " + empty + ": holds no certificate in PEM":                    {Enabled: true, CAFile: empty},
		"ca_file /nowhere: no such file":                                        {Enabled: true, CAFile: "/nowhere"},
		"key_file /nowhere: no such file":                                       {Enabled: true, CertificateFile: pair.CertificateFile, KeyFile: "/nowhere"},
		"and key_file " + a.Sign("b", certtest.Leaf{}).KeyFile + " are no pair": {Enabled: true, CertificateFile: pair.CertificateFile, KeyFile: filepath.Join(filepath.Dir(pair.KeyFile), "b.key")},
	} {
		if _, err := o.Load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
