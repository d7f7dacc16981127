package tables

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"
)

// Orders are the rows of the table of orders of one MySQL shard, in the order of their ids.
type Orders struct {
	from  *Shard
	bound []string // columns in which they differ
	fixed []string // all others
	text  []string // what those have, as literals
	rows  [][]driver.NamedValue
}

// Orders reads all orders of a MySQL shard.
func (s *Shard) Orders(ctx context.Context) (*Orders, error) {
	db, err := s.open()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	// Prepared, for whole numbers are numbers then.
	stmt, err := db.PrepareContext(ctx, "SELECT * FROM orders ORDER BY order_id")
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	rows, err := stmt.QueryContext(ctx)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all [][]any
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return divide(s, columns, all), rows.Err()
}

// divide tells the columns that all rows share from the others.
func divide(from *Shard, columns []string, all [][]any) *Orders {
	o := &Orders{from: from, rows: make([][]driver.NamedValue, len(all))}
	for c, name := range columns {
		if shared(all, c) {
			o.fixed, o.text = append(o.fixed, name), append(o.text, literal(all[0][c]))
			continue
		}
		o.bound = append(o.bound, name)
		for i := range all {
			o.rows[i] = append(o.rows[i], driver.NamedValue{Ordinal: len(o.bound), Value: all[i][c]})
		}
	}
	return o
}

// shared tells whether all rows have the same in column c.
func shared(all [][]any, c int) bool {
	for i := range all {
		a, isBytes := all[i][c].([]byte)
		b, were := all[0][c].([]byte)
		if isBytes != were || isBytes && !bytes.Equal(a, b) || !isBytes && all[i][c] != all[0][c] {
			return false
		}
	}
	return len(all) > 0
}

func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case int64:
		return strconv.FormatInt(v, 10)
	case []byte:
		return "X'" + hex.EncodeToString(v) + "'"
	}
	panic(fmt.Sprintf("BUG: a column of orders is a %T", v))
}

// Len is the number of orders.
func (o *Orders) Len() int { return len(o.rows) }

// Loop is how a bare loop inserts.
type Loop struct {
	Connections int // at work at once
	Statement   int // rows of a statement; it is prepared once for each connection
	Transaction int // rows of a transaction: a multiple of Statement, or fewer
}

// Prepare makes the table of orders in an empty database on the same server as it is in the one that was read.
func (o *Orders) Prepare(ctx context.Context, in *Shard) error {
	from, err := mysql.ParseDSN(o.from.Place)
	to, bad := mysql.ParseDSN(in.Place)
	if err := errors.Join(err, bad); err != nil {
		return errors.New("the data source name does not parse (user:password@tcp(host:port)/database)")
	}
	db, err := in.open()
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "CREATE TABLE "+quoted("mysql", to.DBName)+".orders LIKE "+quoted("mysql", from.DBName)+".orders")
	return err
}

// Insert inserts the orders into a database that was prepared: each connection takes what makes a transaction, and then the
// next, until none is left.
func (o *Orders) Insert(ctx context.Context, in *Shard, l Loop) error {
	db, err := in.open()
	if err != nil {
		return err
	}
	defer db.Close()
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range l.Connections {
		g.Go(func() error {
			conn, err := db.Conn(gctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			return conn.Raw(func(dc any) error {
				w := &inserter{o: o, conn: dc.(bare), stmts: map[int]driver.StmtExecContext{}}
				defer w.close()
				for {
					to := int(next.Add(int64(l.Transaction)))
					from := to - l.Transaction
					if from >= len(o.rows) {
						return nil
					}
					if err := w.transaction(gctx, o.rows[from:min(to, len(o.rows))], l.Statement); err != nil {
						return err
					}
				}
			})
		})
	}
	return g.Wait()
}

// bare is a connection below database/sql, which costs as much as the driver does.
type bare interface {
	driver.ConnPrepareContext
	driver.ExecerContext
}

// inserter is one connection, and what is prepared on it by the number of rows.
type inserter struct {
	o     *Orders
	conn  bare
	stmts map[int]driver.StmtExecContext
	args  []driver.NamedValue
}

func (w *inserter) transaction(ctx context.Context, rows [][]driver.NamedValue, size int) error {
	if _, err := w.conn.ExecContext(ctx, "BEGIN", nil); err != nil {
		return err
	}
	for len(rows) > 0 {
		n := min(size, len(rows))
		stmt, err := w.stmt(ctx, n)
		if err != nil {
			return err
		}
		w.args = w.args[:0]
		for _, row := range rows[:n] {
			w.args = append(w.args, row...)
		}
		if _, err := stmt.ExecContext(ctx, w.args); err != nil {
			return err
		}
		rows = rows[n:]
	}
	_, err := w.conn.ExecContext(ctx, "COMMIT", nil)
	return err
}

func (w *inserter) stmt(ctx context.Context, rows int) (driver.StmtExecContext, error) {
	if stmt := w.stmts[rows]; stmt != nil {
		return stmt, nil
	}
	stmt, err := w.conn.PrepareContext(ctx, w.o.statement(rows))
	if err != nil {
		return nil, err
	}
	w.stmts[rows] = stmt.(driver.StmtExecContext)
	return w.stmts[rows], nil
}

func (w *inserter) close() {
	for _, stmt := range w.stmts {
		_ = stmt.(driver.Stmt).Close() // the connection is closed next
	}
}

// statement inserts so many rows; what all orders share stands in its text.
func (o *Orders) statement(rows int) string {
	row := "(" + strings.Repeat("?,", len(o.bound)) + strings.Join(o.text, ",")
	row = strings.TrimSuffix(row, ",") + ")"
	return "INSERT INTO orders (" + strings.Join(append(append([]string{}, o.bound...), o.fixed...), ",") + ") VALUES " +
		row + strings.Repeat(","+row, rows-1)
}

// Count is the number of orders in a shard.
func Count(ctx context.Context, in *Shard) (n int, err error) {
	db, err := in.open()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return n, db.QueryRowContext(ctx, "SELECT COUNT(*) FROM orders").Scan(&n)
}
