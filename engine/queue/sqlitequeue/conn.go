package sqlitequeue

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// conn is one SQLite connection below database/sql, whose pool and conversions cost as much as a small statement. It is
// used by one goroutine at a time.
type conn struct {
	driver.Conn
	statements []*statement
}

// pageSize decides what a commit writes: a batch of 28 orders (9 KB) costs 20 KB of WAL with 4 KiB, 32 KB with 8 KiB and
// twice the time with 16 KiB. Larger pages are faster only from 30 KB a message on, where the cost per order is small.
const pageSize = 4096

const busyTimeout = "busy_timeout=2000"

// pragmas are set on every connection. Checkpoints are the keeper's.
var pragmas = []string{
	busyTimeout,
	"synchronous=FULL",
	"wal_autocheckpoint=0",
	"cache_size=-16384",
	"temp_store=MEMORY",
}

func openConn(path string, more ...string) (*conn, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	inner, err := new(sqlite.Driver).Open((&url.URL{Scheme: "file", Path: path}).String())
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner}
	for _, p := range append(more, pragmas...) {
		if err := c.exec("PRAGMA " + p); err != nil {
			return nil, errors.Join(fmt.Errorf("pragma %s: %w", p, err), c.close())
		}
	}
	return c, nil
}

func (c *conn) exec(sql string, args ...any) error {
	_, err := c.Conn.(driver.ExecerContext).ExecContext(context.Background(), sql, named(nil, args))
	return err
}

// row runs a query that gives one row or none; none gives nil.
func (c *conn) row(sql string, args ...any) ([]driver.Value, error) {
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(context.Background(), sql, named(nil, args))
	if err != nil {
		return nil, err
	}
	return firstRow(rows)
}

// number runs a query that gives one number.
func (c *conn) number(sql string, args ...any) (int64, error) {
	row, err := c.row(sql, args...)
	if err != nil || len(row) == 0 || row[0] == nil {
		return 0, err
	}
	return row[0].(int64), nil
}

func firstRow(rows driver.Rows) ([]driver.Value, error) {
	dest := make([]driver.Value, len(rows.Columns()))
	err := rows.Next(dest)
	if err == io.EOF {
		return nil, rows.Close()
	}
	return dest, errors.Join(err, rows.Close())
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.statements {
		errs = append(errs, s.inner.Close())
	}
	return errors.Join(append(errs, c.Conn.Close())...)
}

// statement is prepared once and run many times.
type statement struct {
	inner driver.Stmt
	args  []driver.NamedValue
}

func (c *conn) prepare(sql string) (*statement, error) {
	inner, err := c.Conn.Prepare(sql)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", sql, err)
	}
	s := &statement{inner: inner}
	c.statements = append(c.statements, s)
	return s, nil
}

// exec runs the statement. Arguments are int64, string or []byte, which is not kept.
func (s *statement) exec(args ...any) error {
	s.args = named(s.args, args)
	_, err := s.inner.(driver.StmtExecContext).ExecContext(context.Background(), s.args)
	clear(s.args)
	return err
}

func (s *statement) query(args ...any) (driver.Rows, error) {
	s.args = named(s.args, args)
	rows, err := s.inner.(driver.StmtQueryContext).QueryContext(context.Background(), s.args)
	clear(s.args)
	return rows, err
}

func named(dst []driver.NamedValue, args []any) []driver.NamedValue {
	dst = dst[:0]
	for i, v := range args {
		dst = append(dst, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return dst
}

// isDiskFull tells SQLite's "database or disk is full".
func isDiskFull(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL
}
