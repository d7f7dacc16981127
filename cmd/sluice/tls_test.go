package main

import (
	"crypto/rand"
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/certtest"
	"sluice/internal/mariadbtest"
	"sluice/internal/processtest"
	"sluice/internal/redistest"
)

// tlsServers are a Redis and a MariaDB that speak TLS, each with a certificate of the authority.
type tlsServers struct {
	t         *testing.T
	authority *certtest.Authority
	redis     *redistest.Server
	redisTLS  string // address
	redisPair certtest.Pair
	passwords string // directory of the files
	maria     *mariadbtest.Server
	mariaPair certtest.Pair
	ours      certtest.Pair // a client's
}

func newTLSServers(t *testing.T) *tlsServers {
	t.Helper()
	a := certtest.New(t)
	s := &tlsServers{t: t, authority: a, redisTLS: processtest.FreeAddr(t), redisPair: a.Sign("redis", certtest.Leaf{}),
		mariaPair: a.Sign("mariadb", certtest.Leaf{}), ours: a.Sign("sluice", certtest.Leaf{})}
	_, port, _ := strings.Cut(s.redisTLS, ":")
	s.redis = redistest.Start(t, "tls-port "+port, "tls-cert-file "+s.redisPair.CertificateFile, "tls-key-file "+s.redisPair.KeyFile,
		"tls-ca-cert-file "+a.File, "tls-auth-clients no")
	s.maria = mariadbtest.Start(t, 1, "ssl_cert = "+s.mariaPair.CertificateFile, "ssl_key = "+s.mariaPair.KeyFile, "ssl_ca = "+a.File)[0]
	for _, name := range []string{"life_0", "life_1", "sluice_0", "sluice_1"} {
		s.maria.Create(name)
	}
	return s
}

// settings are those of a server on both, in TLS.
func (s *tlsServers) settings(more ...string) []string {
	s.t.Helper()
	dir := s.t.TempDir()
	s.passwords = dir
	s.write()
	return append([]string{"store.dialect=mysql", "store.shards=" + s.maria.DSN("sluice_0", false) + "," + s.maria.DSN("sluice_1", false),
		"store.tls.enabled=true", "store.tls.ca_file=" + s.authority.File, "secrets.store_password_file=" + dir + "/store",
		"stock.driver=redisstock", "stock.redisstock.addrs=" + s.redisTLS, "stock.redisstock.call_timeout=5s", "stock.redisstock.dial_timeout=5s",
		"stock.redisstock.tls.enabled=true", "stock.redisstock.tls.ca_file=" + s.authority.File, "secrets.redis_password_file=" + dir + "/redis"}, more...)
}

// write puts the passwords into their files, as people do: with a line's end.
func (s *tlsServers) write() {
	s.t.Helper()
	replace(s.t, filepath.Join(s.passwords, "store"), s.maria.Password+"\n")
	replace(s.t, filepath.Join(s.passwords, "redis"), s.redis.Password+"\n")
}

// rotate gives both servers other passwords and certificates of another authority, and ends every connection.
func (s *tlsServers) rotate() {
	s.t.Helper()
	password := rand.Text()
	s.redis.Do("CONFIG", "SET", "requirepass", password)
	s.redis.Password = password
	s.sql("SET PASSWORD FOR 'sluice'@'127.0.0.1' = PASSWORD('" + password + "')")
	s.maria.Password = password
	s.authority.Renew()
	s.ours = s.authority.Sign("sluice", certtest.Leaf{})
	s.give(redisTLS, certtest.Leaf{})
	s.give(storeTLS, certtest.Leaf{})
	s.write()
	s.redis.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	s.sql("BEGIN NOT ATOMIC FOR c IN (SELECT id FROM information_schema.processlist WHERE user = 'sluice' AND id <> CONNECTION_ID()) DO " +
		"KILL c.id; END FOR; END")
}

// sql runs a statement on the MariaDB.
func (s *tlsServers) sql(statement string) {
	s.t.Helper()
	db, err := sql.Open("mysql", s.maria.DSN("", true)+"?tls=skip-verify")
	if err == nil {
		defer func() { _ = db.Close() }()
		_, err = db.Exec(statement)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// The sections of the two servers' settings.
const redisTLS, storeTLS = "stock.redisstock.tls", "store.tls"

// give has the server of a section show another certificate.
func (s *tlsServers) give(section string, leaf certtest.Leaf) {
	s.t.Helper()
	if section == storeTLS {
		s.authority.Sign("mariadb", leaf)
		s.sql("FLUSH SSL")
		return
	}
	s.authority.Sign("redis", leaf)
	s.redis.Do("CONFIG", "SET", "tls-cert-file", s.redisPair.CertificateFile, "tls-key-file", s.redisPair.KeyFile, "tls-ca-cert-file", s.authority.File)
}

// TestTLS runs an order's life over Redis and MariaDB in TLS, behind listeners that speak TLS too, and then has everything
// wrong about the certificates that can be: the check and a start say it in the same plain words, and nobody goes on in plain.
func TestTLS(t *testing.T) {
	t.Parallel()
	servers := newTLSServers(t)
	ours := servers.authority.Sign("gateway", certtest.Leaf{})
	listeners := []string{"gateway.tls.certificate_file=" + ours.CertificateFile, "gateway.tls.key_file=" + ours.KeyFile,
		"ops.tls.certificate_file=" + ours.CertificateFile, "ops.tls.key_file=" + ours.KeyFile}
	set := servers.settings(listeners...)
	life := append(set[:len(set):len(set)], strings.ReplaceAll(set[1], "/sluice_", "/life_"))
	lines, ok := looked(t, t.TempDir(), set...)
	if all := strings.Join(lines, "\n"); !ok || !strings.Contains(all, " in TLS, ") || !strings.Contains(all, "redis at "+servers.redisTLS+": Redis ") {
		t.Errorf("%v %q", ok, lines)
	}
	servers.sql("SET GLOBAL require_secure_transport = ON")
	s, stop := open(t, t.TempDir(), life...)
	s.set = life
	s.gateway, s.ops = strings.Replace(s.gateway, "http:", "https:", 1), strings.Replace(s.ops, "http:", "https:", 1)
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: servers.authority.Trusting()}}
	offer := s.offer("flash", 5, 0)
	s.must(201, "POST", s.gateway+"/v1/orders?wait=9", s.token(1), line(offer, 1))
	s.remaining(offer, "4")
	servers.rotate()
	if !await(func() bool {
		a, err := s.try("POST", s.gateway+"/v1/orders?wait=9", s.token(2), line(offer, 1), "Idempotency-Key", "rotated")
		return err == nil && (a.status == 201 || a.status == 200)
	}) {
		t.Fatal("no order is stored after the change of passwords and certificates")
	}
	if out, _, err := cli(t, s, append([]string{"offer", "list"}, flags(listeners)...)...); err != nil || !strings.Contains(out, offer) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _, err := cli(t, s, append([]string{"health"}, flags(listeners)...)...); err != nil || out != "ready\n" {
		t.Errorf("%v\n%s", err, out)
	}
	if _, _, err := cli(t, s, "health"); err == nil {
		t.Error("the listener is spoken to in plain")
	}
	if b, err := os.ReadFile(filepath.Join(s.dir, "ops-audit.log")); err != nil || strings.Count(string(b), "\n") != 2 {
		t.Errorf("%v\n%s", err, b) // the offer's
	}
	s.audited(true)
	stop()
	servers.wrongCertificates(set)
	servers.wrongSettings(set)
}

// flags are settings as --set.
func flags(set []string) (list []string) {
	for _, s := range set {
		list = append(list, "--set", s)
	}
	return list
}

// wrongCertificates gives the servers certificates that must be refused, one wrong thing at a time.
func (s *tlsServers) wrongCertificates(set []string) {
	s.t.Helper()
	other := certtest.New(s.t)
	for _, section := range []string{redisTLS, storeTLS} {
		but := func(more ...string) []string {
			list := set[:len(set):len(set)]
			for _, m := range more {
				list = append(list, section+"."+m)
			}
			return list
		}
		well := func(set []string) {
			s.t.Helper()
			if lines, ok := looked(s.t, s.t.TempDir(), set...); !ok {
				s.t.Errorf("%s: %q", section, lines)
			}
		}
		s.give(section, certtest.Leaf{Expires: time.Now().Add(-time.Hour)})
		refuses(s.t, " only: renew it, or set the clocks right (", set...)
		refuses(s.t, " only: renew it, or set the clocks right (", but("verify=ca")...)
		s.give(section, certtest.Leaf{Names: []string{"other.example", "10.9.8.7"}})
		refuses(s.t, "its certificate is for other.example, 10.9.8.7: use that name in its address, or say it with "+section+".server_name", set...)
		well(but("server_name=other.example"))
		s.give(section, certtest.Leaf{Names: []string{}})
		refuses(s.t, "its certificate is for no host (it has no subject alternative name): give it one with names, or set "+section+".ca_file to who", set...)
		well(but("verify=ca"))
		s.give(section, certtest.Leaf{})
		for _, verify := range []string{"full", "ca"} {
			refuses(s.t, "its certificate is signed by an authority that is not trusted here: set "+section+".ca_file", but("ca_file="+other.File, "verify="+verify)...)
		}
	}
}

// wrongSettings has the servers well, and the settings wrong.
func (s *tlsServers) wrongSettings(set []string) {
	s.t.Helper()
	but := func(more ...string) []string { return append(set[:len(set):len(set)], more...) }
	refuses(s.t, "does it speak TLS at this address (stock.redisstock.tls.enabled)?", but("stock.redisstock.addrs="+s.redis.Addr,
		"stock.redisstock.dial_timeout=200ms", "stock.redisstock.call_timeout=200ms")...)
	refuses(s.t, "the password is wrong; set SLUICE_STORE_PASSWORD or secrets.store_password_file, or this user must speak TLS (store.tls.enabled)", but("store.tls.enabled=false", "store.tls.ca_file=")...)
	refuses(s.t, "if it wants TLS, set stock.redisstock.tls.enabled to true", but("stock.redisstock.tls.enabled=false", "stock.redisstock.tls.ca_file=")...)
	s.redis.Do("CONFIG", "SET", "tls-auth-clients", "yes")
	refuses(s.t, "it may want a certificate of ours, signed by an authority that it trusts and valid now: set stock.redisstock.tls.certificate_file", set...)
	stranger := certtest.New(s.t).Sign("sluice", certtest.Leaf{})
	refuses(s.t, "it may want a certificate of ours, signed by an authority that it trusts and valid now: set stock.redisstock.tls.certificate_file",
		but("stock.redisstock.tls.certificate_file="+stranger.CertificateFile, "stock.redisstock.tls.key_file="+stranger.KeyFile)...)
	refuses(s.t, "does it take our certificate (store.tls.certificate_file)?",
		but("store.tls.certificate_file="+stranger.CertificateFile, "store.tls.key_file="+stranger.KeyFile)...)
	s.sql("CREATE USER 'certified'@'127.0.0.1' IDENTIFIED BY '" + s.maria.Password + "' REQUIRE X509")
	s.sql("GRANT ALL ON *.* TO 'certified'@'127.0.0.1'")
	certified := strings.ReplaceAll(set[1], "sluice@", "certified@")
	refuses(s.t, "it refuses user 'certified'@'127.0.0.1'", but(certified)...)
	own := but(certified, "stock.redisstock.tls.certificate_file="+s.ours.CertificateFile, "stock.redisstock.tls.key_file="+s.ours.KeyFile,
		"store.tls.certificate_file="+s.ours.CertificateFile, "store.tls.key_file="+s.ours.KeyFile)
	if lines, ok := looked(s.t, s.t.TempDir(), own...); !ok {
		s.t.Errorf("%q", lines)
	}
	plain := mariadbtest.Start(s.t, 1, "skip_ssl")[0]
	plain.Create("sluice_0")
	refuses(s.t, "it speaks no TLS: switch that on there", but("store.shards="+plain.DSN("sluice_0", false))...)
}

// TestBenchOverTLS: a bench of a running server knows its gateway by the authority, or by its certificate, and is audited.
func TestBenchOverTLS(t *testing.T) {
	t.Parallel()
	authority := certtest.New(t)
	pair := authority.Sign("sluice", certtest.Leaf{})
	listeners := []string{"gateway.tls.certificate_file=" + pair.CertificateFile, "gateway.tls.key_file=" + pair.KeyFile,
		"ops.tls.certificate_file=" + pair.CertificateFile, "ops.tls.key_file=" + pair.KeyFile}
	s, _ := open(t, t.TempDir(), listeners...)
	s.gateway, s.ops = strings.Replace(s.gateway, "http:", "https:", 1), strings.Replace(s.ops, "http:", "https:", 1)
	bench := func(args ...string) (string, error) {
		args = append([]string{"bench", "flash", "--target", s.gateway, "--orders", "200", "--connections", "4", "--patience", "-1s", "--set", longD}, args...)
		out, _, err := cli(t, s, args...)
		return out, err
	}
	for _, args := range [][]string{flags(listeners), append(flags(listeners), "--ca", authority.File)} {
		if out, err := bench(args...); err != nil || !strings.Contains(out, "audit") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if _, err := bench(append(flags(listeners), "--ca", certtest.New(t).File)...); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("another authority: %v", err)
	}
	if _, err := bench(); err == nil || !strings.Contains(err.Error(), "no server answers on ") {
		t.Errorf("without the listener's certificate: %v", err)
	}
}
