package main

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"sluice/engine/order"
)

// onMySQL makes two databases and returns them and the settings of a server with these shards.
func onMySQL(t testing.TB) (shards []*sql.DB, set []string) {
	t.Helper()
	return onShards(t, 2)
}

// onShards is onMySQL with so many databases.
func onShards(t testing.TB, n int) (shards []*sql.DB, set []string) {
	t.Helper()
	server := os.Getenv("SLUICE_TEST_MYSQL")
	if server == "" {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal("SLUICE_TEST_MYSQL is not set, and in CI nothing is skipped")
		}
		t.Skip("SLUICE_TEST_MYSQL is not set")
	}
	dsn, err := mysql.ParseDSN(server)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	password := dsn.Passwd
	dsn.Passwd = ""
	var names []string
	for range n {
		dsn.DBName = "sluice_test_" + strings.ToLower(rand.Text())
		if _, err := db.Exec("CREATE DATABASE " + dsn.DBName); err != nil {
			t.Fatal(err)
		}
		name := dsn.DBName
		t.Cleanup(func() {
			if _, err := db.Exec("DROP DATABASE " + name); err != nil {
				t.Error(err)
			}
		})
		names = append(names, dsn.FormatDSN())
		own := dsn.Clone()
		own.Passwd = password
		shard, err := sql.Open("mysql", own.FormatDSN())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = shard.Close() })
		shards = append(shards, shard)
	}
	file := t.TempDir() + "/password"
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	return shards, []string{"store.dialect=mysql", "store.shards=" + strings.Join(names, ","), "secrets.store_password_file=" + file}
}

// TestMySQL runs an order's life on four MySQL shards, over which the configuration has scattered the users; the stock and
// the queue stay embedded.
func TestMySQL(t *testing.T) {
	t.Parallel()
	shards, set := onShards(t, 4)
	scattered := make([]string, 256)
	for v := range scattered {
		scattered[v] = fmt.Sprint((v*7 + v/16 + 3) % 4)
	}
	set = append(set, "store.virtual_shards="+strings.Join(scattered, ","))
	dir := t.TempDir()
	s, stop := open(t, dir, set...)
	s.set = set
	offer := s.offer("normal", 100, 10)
	id := ""
	for user := range 8 {
		id = s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(offer, 1), "Idempotency-Key", fmt.Sprint(user)).field("id")
	}
	s.must(200, "POST", s.gateway+"/v1/orders/"+id+"/cancel", s.token(1), "")
	s.remaining(offer, "93")
	flash := s.offer("flash", 24, 1)
	for user := order.UserID(2); user < 26; user++ {
		s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(user), line(flash, 1))
	}
	for i, shard := range shards {
		var n int
		if err := shard.QueryRow("SELECT COUNT(*) FROM orders").Scan(&n); err != nil || n == 0 {
			t.Errorf("shard %d has %d orders, %v", i, n, err)
		}
	}
	s.audited(true)
	stop()
	s, _ = open(t, dir, set...)
	s.set = set
	s.remaining(offer, "93")
	s.must(200, "GET", s.gateway+"/v1/orders/"+id, s.token(1), "")
	s.audited(true)
}

// A user shard that hangs is taken for down as soon as the setting says, also after a reload.
func TestRecordTimeoutOnMySQL(t *testing.T) {
	t.Parallel()
	shards, set := onMySQL(t)
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(file, []byte("persist: {record_timeout: 1m}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", file}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	r := &reloading{process: spawn(t, t.TempDir(), args...), file: file}
	r.set = set
	c, _ := config(t, r.dir, set...)
	var err error
	if r.secrets, err = c.LoadSecrets(nil, false); err != nil {
		t.Fatal(err)
	}
	r.reloaded(200, "persist: {record_timeout: 100ms}\n")
	var locks []*sql.Conn
	for _, db := range shards {
		conn, err := db.Conn(t.Context())
		if err == nil {
			_, err = conn.ExecContext(t.Context(), "LOCK TABLES orders WRITE")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() }) // which unlocks
		locks = append(locks, conn)
	}
	offer := r.offer("normal", 10, 0)
	a := r.must(202, "POST", r.gateway+"/v1/orders", r.token(1), line(offer, 1))
	if !await(func() bool { return r.parked() == "1" }) {
		t.Fatalf("%s orders were parked", r.parked())
	}
	for _, conn := range locks {
		if _, err := conn.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	r.must(200, "GET", r.gateway+"/v1/orders/"+a.field("id")+"?wait=10", r.token(1), "")
	r.audited(true)
}

// parked is the number of orders that the server has parked.
func (s *shop) parked() string {
	s.t.Helper()
	a := s.must(200, "GET", s.ops+"/metrics", s.secrets.OpsToken, "")
	for line := range strings.Lines(string(a.body)) {
		if value, ok := strings.CutPrefix(line, "sluice_persist_parked_total "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "no"
}
