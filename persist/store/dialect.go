package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

// Dialect names the kind of database.
type Dialect string

// The dialects. MySQL is MySQL 8 or MariaDB 10.11.
const (
	SQLite Dialect = "sqlite"
	MySQL  Dialect = "mysql"
)

// dialect is what differs in the text of a statement.
type dialect struct {
	name      Dialect
	goose     goose.Dialect
	now       string // expression: the database's clock in ms
	forUpdate string // suffix that locks the rows read
	greatest  string // function: the larger of two values
}

var dialects = map[Dialect]*dialect{
	SQLite: {name: SQLite, goose: goose.DialectSQLite3, now: "CAST(unixepoch('subsec')*1000 AS INTEGER)", greatest: "max"},
	MySQL: {name: MySQL, goose: goose.DialectMySQL, now: "CAST(UNIX_TIMESTAMP(NOW(3))*1000 AS SIGNED)",
		forUpdate: " FOR UPDATE", greatest: "GREATEST"},
}

// upsert is the tail of an INSERT that sets columns when a row with the same key is there already. set uses new(column)
// for the value that was to be inserted; empty keeps the row as it is.
func (d *dialect) upsert(key, set string) string {
	if d.name == MySQL {
		if set == "" {
			first, _, _ := strings.Cut(key, ",")
			set = first + " = " + first
		}
		return " ON DUPLICATE KEY UPDATE " + strings.ReplaceAll(set, "new(", "VALUES(")
	}
	if set == "" {
		return " ON CONFLICT (" + key + ") DO NOTHING"
	}
	set = strings.ReplaceAll(set, "new(", "(excluded.")
	return " ON CONFLICT (" + key + ") DO UPDATE SET " + set
}

// openSQLite opens a file for one writer and several readers. The writer's page cache (64 MiB) holds the random index of
// some two million orders: with SQLite's 2 MB recording costs a quarter more.
func openSQLite(path string, o *Options) (write, read *sql.DB, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	file := (&url.URL{Scheme: "file", Path: abs}).String()
	wait := fmt.Sprintf("?_busy_timeout=%d", busyTimeoutMillis)
	writes := fmt.Sprintf("%s&_journal_mode=WAL&_synchronous=FULL&_txlock=immediate"+
		"&_pragma=wal_autocheckpoint(%d)&_pragma=journal_size_limit(%d)&_pragma=cache_size(-65536)",
		wait, o.CheckpointPages, walBytes(o.CheckpointPages))
	if write, err = sql.Open("sqlite", file+writes); err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	if read, err = sql.Open("sqlite", file+wait+"&_query_only=1"); err != nil {
		return write, nil, err
	}
	read.SetMaxOpenConns(o.Readers)
	read.SetMaxIdleConns(o.Readers)
	return write, read, nil
}

func defaultTo[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// guardRefused tells whether a CHECK of the schema refused a row.
func guardRefused(err error) bool { return hasCode(err, []int{275}, 4025, 3819) }

// duplicateKey tells whether a row with the same primary or unique key is there already.
func duplicateKey(err error) bool { return hasCode(err, []int{1555, 2067, 2579}, 1062) }

// rolledBack tells whether the database refused the transaction for the sake of another one: it can run again.
func rolledBack(err error) bool { return hasCode(err, []int{5, 261, 517}, 1213, 1205) }

func hasCode(err error, sqliteCodes []int, mysqlCodes ...uint16) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		for _, c := range sqliteCodes {
			if e.Code() == c {
				return true
			}
		}
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		for _, c := range mysqlCodes {
			if e.Number == c {
				return true
			}
		}
	}
	return false
}

// connectionLost tells whether the connection broke while the call was under way: what it did is not known.
func connectionLost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	_, isNet := errors.AsType[net.Error](err)
	return isNet || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn)
}
