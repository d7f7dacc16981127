package store

import (
	"context"
	"database/sql"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ownServer starts a MariaDB server of the test's own with further options, and returns the name of an empty database
// on it. It takes every user and password, and ends with the test.
func ownServer(t *testing.T, options ...string) string {
	t.Helper()
	needMySQL(t)
	dir := t.TempDir()
	me, err := user.Current()
	noError(t, err)
	common := []string{"--no-defaults", "--datadir=" + filepath.Join(dir, "data"), "--user=" + me.Username,
		"--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M"}
	install := exec.Command("mariadb-install-db", append(common, "--skip-test-db", "--auth-root-authentication-method=normal")...)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	noError(t, err)
	noError(t, listener.Close())
	log, err := os.Create(filepath.Join(dir, "log"))
	noError(t, err)
	server := exec.Command("mariadbd", append(append(common, "--skip-grant-tables", "--skip-networking=0", "--bind-address=127.0.0.1",
		"--port="+port, "--socket="+filepath.Join(os.TempDir(), "sluice-test-"+port+".sock"), "--server-id=1"), options...)...)
	server.Stdout, server.Stderr = log, log
	noError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.Remove(filepath.Join(os.TempDir(), "sluice-test-"+port+".sock"))
	})
	dsn := "root@tcp(127.0.0.1:" + port + ")/"
	db, err := sql.Open("mysql", dsn)
	noError(t, err)
	defer db.Close()
	for end := time.Now().Add(time.Minute); db.Ping() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("the server does not start: %s", text)
		}
	}
	_, err = db.Exec("CREATE DATABASE shop")
	noError(t, err)
	return dsn + "shop"
}

// What a server's settings cost is said; with those that break something, nothing is opened.
func TestWeakServer(t *testing.T) {
	t.Parallel()
	o := testOptions(t, SQLite, 1)
	o.Dialect = MySQL
	o.Shards[0] = ownServer(t, "--innodb-flush-log-at-trx-commit=2", "--log-bin=bin", "--sync-binlog=0", "--binlog-format=STATEMENT",
		"--max-allowed-packet=1M", "--read-only", "--max-connections=12")
	wrong := []string{
		"it is read-only: name the server that takes writes in store.shards",
		"its max_allowed_packet is 1048576 bytes, and a statement with many orders may have more: set it to 4194304 at least (16 MiB and more is usual)",
		"its binlog_format is STATEMENT, which READ COMMITTED cannot be logged with: set it to ROW",
	}
	expectFound(t, o, "0 ok: MariaDB 1", "0 wrong: "+wrong[0], "0 wrong: "+wrong[1],
		"0 warning: its innodb_flush_log_at_trx_commit is 2: a power cut, or a crash of the machine, loses orders that buyers were told are stored; set it to 1",
		"0 wrong: "+wrong[2],
		"0 warning: its sync_binlog is 0: after a power cut its replicas may hold other orders than it does; set it to 1",
		"0 warning: its max_connections is 12, and one process of Sluice uses up to 16 (store.writers + store.readers)")
	_, err := Open(context.Background(), o)
	if err == nil {
		t.Fatal("opened")
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		if i >= len(wrong) || !strings.HasSuffix(line, "/shop): "+wrong[i]) {
			t.Errorf("refused with %q", line)
		}
	}
	db, err := sql.Open("mysql", o.Shards[0])
	noError(t, err)
	defer db.Close()
	for _, repair := range []string{"read_only = OFF", "max_allowed_packet = 16777216", "binlog_format = 'ROW'", "max_connections = 100"} {
		_, err := db.Exec("SET GLOBAL " + repair)
		noError(t, err)
	}
	s := openStore(t, o)
	if w := s.Warnings(); len(w) != 2 || !strings.Contains(w[0], "innodb_flush_log_at_trx_commit is 2") || !strings.Contains(w[1], "sync_binlog is 0") {
		t.Errorf("warnings: %q", w)
	}
}
