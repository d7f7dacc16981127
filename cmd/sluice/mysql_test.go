package main

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// TestMySQL runs an order's life on MySQL shards; the stock and the queue stay embedded.
func TestMySQL(t *testing.T) {
	t.Parallel()
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
	var shards []string
	for range 2 {
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
		shards = append(shards, dsn.FormatDSN())
	}
	file := t.TempDir() + "/password"
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	set := []string{"store.dialect=mysql", "store.shards=" + strings.Join(shards, ","), "secrets.store_password_file=" + file}
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
	s.audited(true)
	stop()
	s, _ = open(t, dir, set...)
	s.set = set
	s.remaining(offer, "93")
	s.must(200, "GET", s.gateway+"/v1/orders/"+id, s.token(1), "")
	s.audited(true)
}
