// Package certtest makes certificates for tests: authorities, and what they sign. Nothing of it is in the program.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates. Its methods end the test when they fail.
type Authority struct {
	File string // of its own certificate, in PEM

	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate and its key, each in a file.
type Pair struct{ CertificateFile, KeyFile string }

// Leaf says what a certificate is for, a server or a client. The zero value is one of localhost and 127.0.0.1 that is valid for an hour.
type Leaf struct {
	Names   []string // host names and addresses; nil: those of this machine; empty: none
	Expires time.Time
}

// New makes an authority, whose files are in a directory of the test's.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir()}
	a.File = filepath.Join(a.dir, "authority.pem")
	a.Renew()
	return a
}

// Renew makes it another authority in the same files: it knows nothing of what it has signed.
func (a *Authority) Renew() {
	a.t.Helper()
	a.key = newKey(a.t)
	template := &x509.Certificate{SerialNumber: serial(a.t), Subject: pkix.Name{CommonName: "an authority of tests"}, IsCA: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(a.File, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Sign makes a certificate in files of the name, which may be there and are replaced one after the other.
func (a *Authority) Sign(name string, leaf Leaf) Pair {
	a.t.Helper()
	template := &x509.Certificate{SerialNumber: serial(a.t), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: leaf.Expires, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}} // a node of a cluster is both
	if leaf.Expires.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if leaf.Names == nil {
		leaf.Names = []string{"localhost", "127.0.0.1"}
	}
	for _, n := range leaf.Names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	p := Pair{filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")}
	a.write(p.CertificateFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.write(p.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return p
}

// Trusting is a client's configuration that trusts this authority alone.
func (a *Authority) Trusting() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool}
}

// write puts a file there whole.
func (a *Authority) write(file string, b []byte) {
	a.t.Helper()
	err := os.WriteFile(file+".new", b, 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
