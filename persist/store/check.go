package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Level says how much a finding matters.
type Level string

// The levels. A warning is for a person to weigh; with something wrong, Open refuses.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Wrong   Level = "wrong"
)

// Finding is one thing that a look at a shard has found, in words for the person who runs it.
type Finding struct {
	Shard int
	Place string // of the shard, without its password
	Level Level
	Text  string
	err   error // that Text tells, if it tells one
}

// String is the finding as a line.
func (f *Finding) String() string { return fmt.Sprintf("shard %d (%s): %s", f.Shard, f.Place, f.Text) }

// Check looks at the shards as Open does and says everything that it finds, without changing or making anything. A shard
// with nothing wrong has one finding that says what it is; one that cannot be read has one that says why. The error is
// for options that make no sense.
func Check(ctx context.Context, o Options) ([]Finding, error) {
	o.Writers, o.Readers = defaultTo(o.Writers, 8), defaultTo(o.Readers, 8)
	s := &Store{opts: o, dialect: dialects[o.Dialect]}
	if err := s.check(); err != nil {
		return nil, err
	}
	for i := range o.Shards {
		s.shards = append(s.shards, &shard{number: i})
	}
	findings := s.look(ctx, func(sh *shard) (err error) {
		if o.Dialect == SQLite {
			sh.read, err = openReadOnly(o.Shards[sh.number])
			return err
		}
		sh.write, sh.read, err = openMySQL(o.Shards[sh.number], &o)
		return err
	})
	var errs []error
	for _, sh := range s.shards {
		errs = append(errs, sh.close())
	}
	return findings, errors.Join(errs...)
}

// openReadOnly opens a file beside the process that writes it. A file that is not there is a shard to come: nil.
func openReadOnly(path string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(abs); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	file := (&url.URL{Scheme: "file", Path: abs}).String()
	return sql.Open("sqlite", file+fmt.Sprintf("?mode=ro&_query_only=1&_busy_timeout=%d", busyTimeoutMillis))
}

// look opens the shards by open, reads their state, and finds what is wrong with each and with all of them together.
// Others may have their first start meanwhile: they write the facts of shard 0 first, and `complete` last. So the last
// shard is read first, and one that was empty once more after `complete` was seen.
func (s *Store) look(ctx context.Context, open func(*shard) error) []Finding {
	lists := make([][]Finding, len(s.shards))
	states := make([]*state, len(s.shards))
	for i := len(s.shards) - 1; i >= 0; i-- {
		note := func(level Level, format string, args ...any) {
			lists[i] = append(lists[i], s.finding(i, level, fmt.Sprintf(format, args...)))
		}
		st, err := s.lookAt(ctx, s.shards[i], open, note)
		if err != nil {
			f := s.finding(i, Wrong, err.Error())
			f.err = err
			lists[i] = append(lists[i], f)
			continue
		}
		states[i] = st
	}
	s.lookAgain(ctx, states)
	var all []Finding
	for i := range lists {
		if states[i] != nil {
			lists[i] = append([]Finding{s.finding(i, OK, states[i].describe())}, lists[i]...)
		}
		all = append(all, lists[i]...)
	}
	for i, st := range states {
		if st == nil {
			return all // what cannot be read cannot be compared
		}
		for _, text := range s.differences(i, states) {
			all = append(all, s.finding(i, Wrong, text))
		}
	}
	return all
}

// lookAgain reads shards that were empty before shard 0 said that they are not.
func (s *Store) lookAgain(ctx context.Context, states []*state) {
	for i, st := range states {
		if st == nil || states[0] == nil || states[0].facts[complete] == "" || len(st.facts) > 0 || s.shards[i].read == nil {
			continue
		}
		_ = s.readState(ctx, s.shards[i], st) // it could be read a moment ago, and what was read then still stands
	}
}

func (s *Store) finding(shard int, level Level, text string) Finding {
	return Finding{Shard: shard, Place: s.dialect.place(s.opts.Shards[shard]), Level: level, Text: text}
}

// lookAt reads the state of one shard and notes what is wrong with its server.
func (s *Store) lookAt(ctx context.Context, sh *shard, open func(*shard) error, note noteFunc) (*state, error) {
	if err := open(sh); err != nil {
		return nil, err
	}
	st := &state{known: s.newestSchema(), server: "SQLite"}
	if sh.read == nil {
		st.server = "no file yet"
		return st, nil
	}
	if s.dialect.name == MySQL {
		if err := s.lookAtServer(ctx, sh, st, note); err != nil {
			return nil, s.opts.explain(err, s.opts.Shards[sh.number])
		}
	}
	if err := s.readState(ctx, sh, st); err != nil {
		return nil, s.opts.explain(fmt.Errorf("read its tables: %w", err), s.opts.Shards[sh.number])
	}
	if text := st.tooNew(); text != "" {
		return nil, errors.New(text)
	}
	return st, nil
}

type noteFunc func(level Level, format string, args ...any)

// state is what a shard says of itself.
type state struct {
	server     string            // program and version
	schema     int64             // version of its tables, 0: none
	known      int64             // the newest version that this program knows
	compatible int64             // the version that a program must know to use them (compatible.go), 0: any
	facts      map[string]string // empty before the first start
}

func (st *state) describe() string {
	switch {
	case st.schema == 0:
		return st.server + ", no tables yet: the first start makes them"
	case st.schema < st.known:
		return fmt.Sprintf("%s, tables of version %d: the next start brings them to version %d", st.server, st.schema, st.known)
	case st.schema > st.known:
		return fmt.Sprintf("%s, tables of version %d, made by a newer program; this one knows version %d and may use them", st.server, st.schema, st.known)
	}
	return fmt.Sprintf("%s, tables of version %d", st.server, st.schema)
}

// readState reads the version of the tables and the facts, where there are any.
func (s *Store) readState(ctx context.Context, sh *shard, st *state) error {
	st.facts = map[string]string{}
	const tables = "SELECT COALESCE(SUM(CASE WHEN %[1]s = 'fact' THEN 1 ELSE 0 END), 0), " +
		"COALESCE(SUM(CASE WHEN %[1]s = 'goose_db_version' THEN 1 ELSE 0 END), 0) FROM %[2]s"
	there := fmt.Sprintf(tables, "name", "sqlite_master")
	if s.dialect.name == MySQL {
		there = fmt.Sprintf(tables, "table_name", "information_schema.tables WHERE table_schema = DATABASE()")
	}
	var facts, versions bool
	if err := sh.read.QueryRowContext(ctx, there).Scan(&facts, &versions); err != nil || !versions {
		return err
	}
	const version = "SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version"
	if err := sh.read.QueryRowContext(ctx, version).Scan(&st.schema); err != nil {
		return err
	}
	switch {
	case !facts && st.schema > 0:
		return errors.New("another program keeps the versions of its tables here: name a database of its own")
	case !facts:
		return nil // a first start that did not come far
	}
	rows, err := sh.read.QueryContext(ctx, "SELECT name, value FROM fact")
	err = each(rows, err, func(r *sql.Rows) error {
		var name, value string
		err := r.Scan(&name, &value)
		st.facts[name] = value
		return err
	})
	return errors.Join(err, st.takeCompatible())
}

// newestSchema is the version of the last migration that this program has.
func (s *Store) newestSchema() (newest int64) {
	files, err := fs.ReadDir(s.migrations(), ".")
	if err != nil {
		panic("BUG: migrations are not embedded: " + err.Error())
	}
	for _, f := range files {
		number, _, _ := strings.Cut(f.Name(), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			panic("BUG: a migration without a number: " + f.Name())
		}
		newest = max(newest, n)
	}
	return newest
}

// What a server must have, and what it should.
const (
	packetMin    = 4 << 20 // of max_allowed_packet: a statement has some 2 MiB at most (statementBytes)
	clockOffMax  = time.Second
	clockOffMost = 30 * time.Second // of shard 0: a process whose clock is outside its lease gives no order ids
)

// lookAtServer notes what a MySQL server's settings mean for what Sluice promises.
func (s *Store) lookAtServer(ctx context.Context, sh *shard, st *state, note noteFunc) error {
	vars, err := readVariables(ctx, sh.read)
	if err != nil {
		return err
	}
	if st.server = describeServer(vars["version"]); s.opts.TLS.Enabled {
		st.server += " in TLS"
	}
	if text := tooOld(vars["version"]); text != "" {
		note(Wrong, "%s", text)
	}
	judgeServer(vars, note)
	if conns, _ := strconv.Atoi(vars["max_connections"]); conns < s.opts.Writers+s.opts.Readers {
		note(Warning, "its max_connections is %d, and one process of Sluice uses up to %d (store.writers + store.readers)",
			conns, s.opts.Writers+s.opts.Readers)
	}
	return s.lookAtClock(ctx, sh, note)
}

// lookAtClock compares a server's clock with this machine's, as far as the time that the question took lets it.
func (s *Store) lookAtClock(ctx context.Context, sh *shard, note noteFunc) error {
	before := time.Now()
	now, err := s.Now(ctx, sh.number)
	if err != nil {
		return err
	}
	off, how := before.Sub(now.Time()), "behind"
	if ahead := time.Until(now.Time()); ahead > off {
		off, how = ahead, "ahead of"
	}
	switch off = off.Round(time.Millisecond); {
	case sh.number == 0 && off > clockOffMost:
		note(Wrong, "its clock is %v %s this machine's, and order ids are leased by it for a minute at a time: set both right (NTP)", off, how)
	case off > clockOffMax:
		note(Warning, "its clock is %v %s this machine's: keep both right by NTP (leases and expiry go by it)", off, how)
	}
	return nil
}

// readVariables reads the variables that matter by SHOW: one that a server does not have is no error.
func readVariables(ctx context.Context, db *sql.DB) (map[string]string, error) {
	vars := map[string]string{}
	rows, err := db.QueryContext(ctx, "SHOW SESSION VARIABLES WHERE Variable_name IN ('version', 'read_only', 'log_bin', 'binlog_format', "+
		"'sync_binlog', 'innodb_flush_log_at_trx_commit', 'max_allowed_packet', 'max_connections', 'tx_isolation', "+
		"'transaction_isolation', 'sql_mode', 'time_zone')")
	return vars, each(rows, err, func(r *sql.Rows) error {
		var name, value string
		err := r.Scan(&name, &value)
		vars[name] = value
		return err
	})
}

func judgeServer(vars map[string]string, note noteFunc) {
	if on(vars["read_only"]) {
		note(Wrong, "it is read-only: name the server that takes writes in store.shards")
	}
	if isolation := vars["transaction_isolation"] + vars["tx_isolation"]; !strings.HasPrefix(isolation, "READ-COMMITTED") {
		note(Wrong, "its sessions are at %s although READ COMMITTED was set: is there a proxy between that drops what a session sets?", isolation)
	}
	if mode := vars["sql_mode"]; !strings.Contains(mode, "STRICT_ALL_TABLES") || vars["time_zone"] != "+00:00" {
		note(Wrong, "its sessions have sql_mode %q and time_zone %q although others were set: is there a proxy between that drops what a session sets?",
			mode, vars["time_zone"])
	}
	if packet, _ := strconv.Atoi(vars["max_allowed_packet"]); packet < packetMin {
		note(Wrong, "its max_allowed_packet is %d bytes, and a statement with many orders may have more: set it to %d at least (16 MiB and more is usual)",
			packet, packetMin)
	}
	if vars["innodb_flush_log_at_trx_commit"] != "1" {
		note(Warning, "its innodb_flush_log_at_trx_commit is %s: a power cut, or a crash of the machine, loses orders that buyers were told are stored; set it to 1",
			vars["innodb_flush_log_at_trx_commit"])
	}
	if !on(vars["log_bin"]) {
		return
	}
	if vars["binlog_format"] == "STATEMENT" {
		note(Wrong, "its binlog_format is STATEMENT, which READ COMMITTED cannot be logged with: set it to ROW")
	}
	if vars["sync_binlog"] != "1" {
		note(Warning, "its sync_binlog is %s: after a power cut its replicas may hold other orders than it does; set it to 1", vars["sync_binlog"])
	}
}

func on(value string) bool { return value == "ON" || value == "1" }

// describeServer is "MariaDB 10.11.6" or "MySQL 8.0.36".
func describeServer(version string) string {
	number, rest, _ := strings.Cut(version, "-")
	if strings.Contains(rest, "MariaDB") {
		return "MariaDB " + number
	}
	return "MySQL " + number
}

// tooOld says why a server's version will not do; empty: it will.
func tooOld(version string) string {
	server := describeServer(version)
	least, name := [3]int{8, 0, 16}, "MySQL 8.0.16"
	if strings.HasPrefix(server, "MariaDB") {
		least, name = [3]int{10, 6, 0}, "MariaDB 10.6"
	}
	var have [3]int
	_, number, _ := strings.Cut(server, " ")
	for i, part := range strings.SplitN(number, ".", 3) {
		have[i], _ = strconv.Atoi(part)
	}
	for i := range have {
		if have[i] != least[i] {
			if have[i] > least[i] {
				return ""
			}
			return fmt.Sprintf("it is %s; %s or later is needed, which holds to CHECK constraints, the last guard against selling twice", server, name)
		}
	}
	return ""
}
