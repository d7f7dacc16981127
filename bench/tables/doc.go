// Package tables is what a bench does with the tables of a deployment itself, beside the program: it reads how large they
// are, and inserts orders that the program has stored once more by a bare loop, so that storing can be compared with what
// the same servers do with the same rows.
//
// Goroutines of Insert: one per connection, ended when it returns. Memory: the orders of a shard, about 1 KiB each.
package tables

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // the driver "sqlite" of database/sql
)

// Shard is where a shard lies.
type Shard struct {
	Dialect string      // sqlite or mysql
	Place   string      // path of a file, or data source name
	TLS     *tls.Config // of the MySQL server; nil: in plain
}

// open opens it; a file can only be read.
func (s *Shard) open() (*sql.DB, error) {
	if s.Dialect != "mysql" {
		path, err := filepath.Abs(s.Place)
		if err != nil {
			return nil, err
		}
		file := (&url.URL{Scheme: "file", Path: path}).String()
		return sql.Open("sqlite", file+"?mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(10000)")
	}
	cfg, err := mysql.ParseDSN(s.Place)
	if err != nil {
		return nil, errors.New("the data source name does not parse (user:password@tcp(host:port)/database)")
	}
	cfg.Timeout, cfg.TLS = 5*time.Second, s.TLS
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Table is a table of one shard.
type Table struct {
	Name    string `json:"name"`
	Rows    int64  `json:"rows"`
	Data    int64  `json:"data_bytes"`  // of the rows; in MySQL these are the primary key
	Indexes int64  `json:"index_bytes"` // of all other indexes
}

// Sizes are the tables of a shard, by name.
func (s *Shard) Sizes(ctx context.Context) (list []Table, err error) {
	db, err := s.open()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if s.Dialect == "mysql" {
		list, err = sizesMySQL(ctx, db)
	} else {
		list, err = scanTables(db.QueryContext(ctx, sizesSQLite))
	}
	for i := 0; err == nil && i < len(list); i++ {
		t := &list[i]
		if err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+quoted(s.Dialect, t.Name)).Scan(&t.Rows); err != nil {
			err = fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return list, err
}

// sizesSQLite counts pages; those of an index are named after it.
const sizesSQLite = `SELECT s.tbl_name, SUM(CASE s.type WHEN 'table' THEN d.pgsize ELSE 0 END), SUM(CASE s.type WHEN 'index' THEN d.pgsize ELSE 0 END)
FROM dbstat d JOIN sqlite_schema s ON s.name = d.name WHERE d.aggregate = TRUE AND s.tbl_name NOT LIKE 'sqlite\_%' ESCAPE '\'
GROUP BY s.tbl_name ORDER BY s.tbl_name`

const sizesOfMySQL = `SELECT table_name, data_length, index_length FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' ORDER BY table_name`

// sizesMySQL has the server count anew first: what it knows of itself is as old as its last count.
func sizesMySQL(ctx context.Context, db *sql.DB) ([]Table, error) {
	list, err := scanTables(db.QueryContext(ctx, sizesOfMySQL))
	for _, t := range list {
		if err == nil {
			err = analyze(ctx, db, t.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	return scanTables(db.QueryContext(ctx, sizesOfMySQL))
}

func analyze(ctx context.Context, db *sql.DB, table string) error {
	rows, err := db.QueryContext(ctx, "ANALYZE TABLE "+quoted("mysql", table))
	if err != nil {
		return err
	}
	return rows.Close() // what it says of each step is not what it finds
}

func scanTables(rows *sql.Rows, err error) (list []Table, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t Table
		if err := rows.Scan(&t.Name, &t.Data, &t.Indexes); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, rows.Err()
}

func quoted(dialect, name string) string {
	mark := `"`
	if dialect == "mysql" {
		mark = "`"
	}
	return mark + strings.ReplaceAll(name, mark, mark+mark) + mark
}
