package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// found is what a look at shards says, a line each, the places taken out.
func found(t *testing.T, o Options) []string {
	t.Helper()
	findings, err := Check(context.Background(), o)
	noError(t, err)
	lines := make([]string, len(findings))
	for i, f := range findings {
		lines[i] = fmt.Sprintf("%d %s: %s", f.Shard, f.Level, f.Text)
	}
	return lines
}

// expectFound wants lines that begin so, in order, and no others.
func expectFound(t *testing.T, o Options, want ...string) {
	t.Helper()
	got := found(t, o)
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			return
		}
	}
}

// A look says what a shard is, and changes nothing: not before the first start, and not beside a running server.
func TestCheck(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		o := testOptions(t, d, 2)
		server, none := "SQLite", "no file yet"
		if d == MySQL {
			server, none = "MariaDB 1", "MariaDB 1"
		}
		for i, line := range found(t, o) {
			if !strings.HasPrefix(line, fmt.Sprintf("%d ok: %s", i, none)) || !strings.HasSuffix(line, ", no tables yet: the first start makes them") {
				t.Errorf("before the first start: %s", line)
			}
		}
		if n := tablesOf(t, d, o.Shards[0]); n != 0 {
			t.Errorf("a look made %d tables", n)
		}
		s := openStore(t, o)
		newest := s.newestSchema()
		for i, line := range found(t, o) {
			if !strings.HasPrefix(line, fmt.Sprintf("%d ok: %s", i, server)) || !strings.HasSuffix(line, fmt.Sprintf(", tables of version %d", newest)) {
				t.Errorf("beside a running server: %s", line)
			}
		}
		_, err := s.shards[1].write.Exec("DELETE FROM goose_db_version WHERE version_id = ?", newest)
		noError(t, err)
		if line := found(t, o)[1]; !strings.Contains(line, ": the next start brings them to version ") && newest > 1 {
			t.Errorf("older tables: %s", line)
		}
		noError(t, s.Close())
	})
}

// A program starts on tables of a newer release unless they say that it is too old for them. A look says the same.
func TestNewerTables(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		o := testOptions(t, d, 2)
		newer := o
		newer.migrations = planted(t, d, "ALTER TABLE orders ADD COLUMN channel BIGINT NOT NULL DEFAULT 7;")
		noError(t, openStore(t, newer).Close())
		s := openStore(t, o)
		known := s.newestSchema()
		may := fmt.Sprintf(", tables of version %d, made by a newer program; this one knows version %d and may use them", known+1, known)
		for i, line := range found(t, o) {
			if !strings.HasPrefix(line, fmt.Sprintf("%d ok: ", i)) || !strings.HasSuffix(line, may) {
				t.Errorf("tables that only have more: %s", line)
			}
		}
		_, err := s.shards[1].write.Exec("INSERT INTO fact (name, value) VALUES ('compatible_from', ?)", fmt.Sprint(known+1))
		noError(t, err)
		noError(t, s.Close())
		refused := fmt.Sprintf("its tables are of version %d, and only programs that know version %d or later may use them; this one knows them "+
			"up to version %d: run the newer program", known+1, known+1, known)
		if got := found(t, o); len(got) != 2 || !strings.HasSuffix(got[0], may) || got[1] != "1 wrong: "+refused {
			t.Errorf("tables that have less: %q", got)
		}
		if _, err := Open(context.Background(), o); err == nil || !strings.HasSuffix(err.Error(), refused) {
			t.Errorf("opened tables that have less: %v", err)
		}
		s = openStore(t, newer)
		_, err = s.shards[1].write.Exec("UPDATE fact SET value = 'soon' WHERE name = 'compatible_from'")
		noError(t, err)
		noError(t, s.Close())
		expectFound(t, o, "0 ok: ", `1 wrong: read its tables: compatible_from is "soon", which this program does not understand`)
	})
}

// What a newer program does to the tables between a program's look and its turn to change them is seen.
func TestTablesChangedSinceTheLook(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	noError(t, openStore(t, o).Close())
	other, release := migrating(t, o.Shards[0])
	opened := make(chan error, 1)
	go func() {
		s, err := Open(context.Background(), o)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	for waiting := 0; waiting == 0; time.Sleep(10 * time.Millisecond) { // it has looked, and waits for its turn
		noError(t, other.QueryRowContext(context.Background(), "SELECT COUNT(*) FROM information_schema.processlist "+
			"WHERE state = 'User lock' AND db = DATABASE()").Scan(&waiting))
	}
	_, err := other.ExecContext(context.Background(), "INSERT INTO fact (name, value) VALUES ('compatible_from', '99')")
	noError(t, err)
	release()
	if err := <-opened; err == nil || !strings.Contains(err.Error(), "another program has changed the tables meanwhile: its tables are of version ") {
		t.Errorf("opened: %v", err)
	}
}

// migrating is a connection of a program that has its turn to change the tables, until release.
func migrating(t *testing.T, dsn string) (conn *sql.Conn, release func()) {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	noError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	conn, err = db.Conn(context.Background())
	noError(t, err)
	var got int
	noError(t, conn.QueryRowContext(context.Background(), "SELECT GET_LOCK(CONCAT('sluice ', SHA1(DATABASE())), 0)").Scan(&got))
	return conn, func() { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) } // the connection ends, and the lock with it
}

// A first start of another process that ends between the looks at two shards is no shard that has lost its data.
func TestCheckDuringAFirstStart(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		o := testOptions(t, d, 2)
		s := openStore(t, o)
		states := []*state{{}, {facts: map[string]string{}}}
		noError(t, s.readState(context.Background(), s.shards[0], states[0]))
		if len(s.differences(1, states)) != 1 {
			t.Error("an empty shard is accepted")
		}
		s.lookAgain(context.Background(), states)
		if texts := s.differences(1, states); len(texts) > 0 {
			t.Errorf("looked again: %q", texts)
		}
	})
}

func TestCheckForeignTables(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		o := testOptions(t, d, 1)
		s := openStore(t, o)
		_, err := s.shards[0].write.Exec("DROP TABLE fact")
		noError(t, err)
		noError(t, s.Close())
		expectFound(t, o, "0 wrong: read its tables: another program keeps the versions of its tables here: name a database of its own")
	})
}

func TestCheckDamagedFile(t *testing.T) {
	t.Parallel()
	o := testOptions(t, SQLite, 2)
	noError(t, openStore(t, o).Close())
	noError(t, os.WriteFile(o.Shards[1], []byte(strings.Repeat("no database ", 1000)), 0o600))
	expectFound(t, o, "0 ok: SQLite, tables of version", "1 wrong: read its tables: file is not a database")
	o.Shards[1] = filepath.Join(o.Shards[1], "below-a-file.db")
	expectFound(t, o, "0 ok: SQLite", "1 wrong: ")
}

// What a person gets wrong about a MySQL server is told with what to do.
func TestCheckMistakes(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	own := func(change func(*mysql.Config)) Options {
		o := o
		o.Shards = []string{through(t, o.Shards[0], change)}
		return o
	}
	expectFound(t, own(func(c *mysql.Config) { c.Net, c.Addr = "tcp", "127.0.0.1:1" }),
		"0 wrong: it does not answer: is it running, and is its address in store.shards right? (dial tcp 127.0.0.1:1: connect: connection refused)")
	expectFound(t, own(func(c *mysql.Config) { c.Passwd = "wrong" }),
		"0 wrong: it refuses user 'sluice'@'127.0.0.1': the name in store.shards or the password is wrong; set SLUICE_STORE_PASSWORD or secrets.store_password_file, or this user must speak TLS (store.tls.enabled) (")
	expectFound(t, own(func(c *mysql.Config) { c.User = "nobody" }), "0 wrong: it refuses user 'nobody'@'127.0.0.1': the name")
	expectFound(t, own(func(c *mysql.Config) { c.DBName = "sluice_not_there" }),
		"0 wrong: it has no database sluice_not_there; an administrator makes it with: CREATE DATABASE `sluice_not_there` CHARACTER SET utf8mb4 "+
			"COLLATE utf8mb4_bin; GRANT ALL ON `sluice_not_there`.* TO 'sluice'@'%'; (")
	expectFound(t, own(func(c *mysql.Config) { c.DBName = "foreign" }),
		"0 wrong: user 'sluice'@'127.0.0.1' may not use a database foreign; an administrator makes it, if it is not there, with: "+
			"CREATE DATABASE `foreign` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; and lets the user in with: GRANT ALL ON `foreign`.* TO 'sluice'@'127.0.0.1'; (")
	clock := func(off time.Duration) func(*mysql.Config) {
		return func(c *mysql.Config) {
			c.Params = map[string]string{"timestamp": fmt.Sprint(time.Now().Add(off).Unix())} // the sessions' clock, which stands still
		}
	}
	expectFound(t, own(clock(25*time.Second)), "0 ok: MariaDB 1", "0 warning: its clock is 2")
	expectFound(t, own(clock(time.Hour)), "0 ok: MariaDB 1", "0 wrong: its clock is 59m")
	expectFound(t, own(clock(-90*time.Second)), "0 ok: MariaDB 1", "0 wrong: its clock is 1m3")
	two := own(clock(0))
	two.Shards = append(o.Shards[:1:1], own(clock(-90*time.Second)).Shards...)
	expectFound(t, two, "0 ok: MariaDB 1", "1 ok: MariaDB 1", "1 warning: its clock is 1m3")
	if tables := tablesOf(t, MySQL, o.Shards[0]); tables != 0 {
		t.Errorf("looking made %d tables", tables)
	}
	for _, name := range []string{"version", "read_only", "log_bin", "binlog_format", "sync_binlog", "innodb_flush_log_at_trx_commit",
		"max_allowed_packet", "max_connections", "tx_isolation", "sql_mode", "time_zone"} {
		db, err := sql.Open("mysql", o.Shards[0])
		noError(t, err)
		vars, err := readVariables(context.Background(), db)
		noError(t, err)
		noError(t, db.Close())
		if vars[name] == "" {
			t.Errorf("the server says nothing of %s", name)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	o := Options{Dialect: MySQL}
	for number, want := range map[uint16]string{
		1142: "user 'x'@'10.0.0.1' may not do what is needed; an administrator allows it with: GRANT ALL ON `shop`.* TO 'x'@'10.0.0.1'; (",
		1040: "it has no connection left: raise its max_connections, or lower store.writers and store.readers (",
		1234: "Error 1234: CREATE command denied to user 'x'@'10.0.0.1'",
	} {
		err := &mysql.MySQLError{Number: number, Message: "CREATE command denied to user 'x'@'10.0.0.1'"}
		got := o.explain(fmt.Errorf("before: %w", err), "x:secret@tcp(h)/shop")
		if !strings.Contains(got.Error(), want) || strings.Contains(got.Error(), "secret") || !errors.Is(got, err) {
			t.Errorf("%d: %v", number, got)
		}
	}
	if boom := errors.New("boom"); o.explain(boom, "x@tcp(h)/shop") != boom || o.explain(nil, "") != nil {
		t.Error("another error changed")
	}
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	for version, refused := range map[string]bool{
		"10.11.6-MariaDB-0+deb12u1-log": false, "10.6.0-MariaDB": false, "10.5.29-MariaDB": true, "11.4.2-MariaDB": false, "8.0.16": false,
		"8.0.15-log": true, "8.4.3": false, "9.1.0": false, "5.7.44-log": true, "8.0.36-0ubuntu0.22.04.1": false, "8.0.28-azure": false,
	} {
		if got := tooOld(version); (got != "") != refused {
			t.Errorf("%s: %q", version, got)
		}
	}
}
