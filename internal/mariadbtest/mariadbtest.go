// Package mariadbtest starts real MariaDB servers of a test's own, which it may then kill and pause. Nothing of it is in
// the program. They listen on the loopback interface, have little memory and every commit on disk, and end with the test,
// or with the test's process however that ends.
//
// # Goroutines
//
// One per server that runs: processtest's.
package mariadbtest

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"sluice/internal/processtest"
)

// Server is one MariaDB server with the user sluice, who may do everything. Its methods end the test when they fail; they
// are for one goroutine.
type Server struct {
	Addr     string // host:port, the same for all its lives
	Password string
	Dir      string // of its data and its log
	Lines    []string

	*processtest.Process
	t testing.TB
}

const waitMax = time.Minute

// Start starts n servers that share a password; lines are further ones of my.cnf, the last of two counts. Where there is no
// MariaDB the test is skipped; in CI that is a failure.
func Start(t testing.TB, n int, lines ...string) []*Server {
	t.Helper()
	servers, password := make([]*Server, n), rand.Text()
	for i := range servers {
		s := &Server{Addr: processtest.FreeAddr(t), Password: password, Dir: shortDir(t), Lines: lines, t: t}
		s.Process = processtest.New(t, "mariadb-server", "mariadbd", "--defaults-file="+s.at("my.cnf"))
		servers[i] = s
	}
	template := install(t)
	for _, s := range servers {
		if err := os.CopyFS(s.at("data"), os.DirFS(template)); err != nil {
			t.Fatal(err)
		}
		s.begin()
	}
	for _, s := range servers {
		s.await()
	}
	return servers
}

// install makes the tables of a new server, of which every server gets a copy: that takes less than making them anew.
func install(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(shortDir(t), "data")
	out, err := exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+dir, "--skip-test-db", "--user="+account(t),
		"--auth-root-authentication-method=normal", "--innodb-log-file-size=16M").CombinedOutput()
	if err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	return dir
}

// shortDir is a directory for the test whose name is short enough for a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mariadb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func account(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// config is the file of the server. A file, because arguments can be read by everybody on the machine.
func (s *Server) config() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	lines := []string{"[mariadbd]", "user = " + account(s.t), "datadir = " + s.at("data"), "socket = " + s.at("socket"),
		"pid-file = " + s.at("pid"), "log-error = " + s.at("log"), "init-file = " + s.at("init.sql"), "bind-address = 127.0.0.1",
		"port = " + port, "skip-name-resolve", "character-set-server = utf8mb4", "collation-server = utf8mb4_bin",
		"innodb_buffer_pool_size = 32M", "innodb_log_file_size = 16M", "innodb_flush_log_at_trx_commit = 1",
		"performance_schema = OFF", "log-bin = binlog", "binlog_format = ROW", "sync_binlog = 1", "server-id = 1"}
	return strings.Join(append(lines, s.Lines...), "\n") + "\n"
}

func (s *Server) at(name string) string { return filepath.Join(s.Dir, name) }

// begin starts the process; await waits until it answers.
func (s *Server) begin() {
	s.t.Helper()
	account := "CREATE USER IF NOT EXISTS 'sluice'@'127.0.0.1' IDENTIFIED BY '" + s.Password + "';\n" +
		"GRANT ALL ON *.* TO 'sluice'@'127.0.0.1' WITH GRANT OPTION;\n"
	for name, text := range map[string]string{"my.cnf": s.config(), "init.sql": account} {
		if err := os.WriteFile(s.at(name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.Launch()
}

func (s *Server) await() {
	s.t.Helper()
	db := s.Open("")
	defer func() { _ = db.Close() }()
	for end := time.Now().Add(waitMax); db.Ping() != nil; time.Sleep(20 * time.Millisecond) {
		if !s.Runs() || time.Now().After(end) {
			log, _ := os.ReadFile(s.at("log"))
			s.t.Fatalf("mariadbd does not answer:\n%s", log)
		}
	}
}

// Start starts the server again, at its address and with its data, and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.begin()
	s.await()
}

// DSN is the data source name of a database of the server; withPassword, because Sluice wants to have it elsewhere.
func (s *Server) DSN(database string, withPassword bool) string {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = "sluice", "tcp", s.Addr, database
	if withPassword {
		cfg.Passwd = s.Password
	}
	return cfg.FormatDSN()
}

// Open opens a database of the server, for the caller to close; empty: none of them.
func (s *Server) Open(database string) *sql.DB {
	s.t.Helper()
	cfg, err := mysql.ParseDSN(s.DSN(database, true))
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return sql.OpenDB(connector)
}

// Create creates a database of the server.
func (s *Server) Create(database string) {
	s.t.Helper()
	db := s.Open("")
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(fmt.Sprintf("CREATE DATABASE `%s`", database)); err != nil {
		s.t.Fatal(err)
	}
}
