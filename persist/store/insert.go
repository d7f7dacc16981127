package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
)

// insertChunk bounds the rows of one statement on MySQL: beyond a few hundred nothing is gained. statementBytes bounds
// their values, which may take twice as much as text: the server takes no statement longer than max_allowed_packet
// (packetMin).
const (
	insertChunk    = 500
	statementBytes = 1 << 20
)

// insert describes an insert of many rows: "table (column, ...)", the number of columns, and what follows the values
// (dialect.upsert).
type insert struct {
	into    string
	columns int
	tail    string
}

// insertRows inserts rows, whose values follow one another in values. They are int64, string, []byte, or nil, or a type
// of package order (converted here). Rows are best in primary-key order. An error leaves the transaction to be rolled
// back: some rows may have been inserted.
func (t *tx) insertRows(ins insert, values []any) error {
	if len(values)%ins.columns != 0 {
		panic(fmt.Sprintf("BUG: %d values for rows of %d", len(values), ins.columns))
	}
	if t.d.name == SQLite {
		return t.insertBound(ins, values)
	}
	for len(values) > 0 {
		n := ins.chunk(values)
		if _, err := t.tx.ExecContext(t.ctx, ins.text(n/ins.columns), values[:n]...); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// chunk is how many values from the front go into one statement: of one row at least.
func (ins insert) chunk(values []any) int {
	bytes := 0
	for i, v := range values {
		if i%ins.columns == 0 && i > 0 && (i == insertChunk*ins.columns || bytes > statementBytes) {
			return i
		}
		switch v := v.(type) {
		case string:
			bytes += len(v)
		case []byte:
			bytes += len(v)
		default:
			bytes += 8
		}
	}
	return len(values)
}

func (ins insert) text(rows int) string {
	mark := tuple(ins.columns)
	return "INSERT INTO " + ins.into + " VALUES " + mark + strings.Repeat(","+mark, rows-1) + ins.tail
}

// insertBound binds row after row to one prepared statement, below database/sql: that is half the cost of going through
// it, and a statement of many rows gains nothing more.
func (t *tx) insertBound(ins insert, values []any) error {
	return t.raw(func(dc any) error {
		stmt, err := t.shard.stmts.get(t.ctx, dc, ins)
		if err != nil {
			return err
		}
		args := make([]driver.NamedValue, ins.columns)
		for len(values) > 0 {
			for i := range args {
				v, err := driver.DefaultParameterConverter.ConvertValue(values[i])
				if err != nil {
					return err
				}
				args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
			}
			if _, err := stmt.ExecContext(t.ctx, args); err != nil {
				return err
			}
			values = values[ins.columns:]
		}
		return nil
	})
}

// statements are prepared on the one writing connection of a SQLite file and used by whoever has its turn.
type statements struct {
	conn     any
	prepared map[insert]preparedStmt
}

type preparedStmt interface {
	driver.Stmt
	driver.StmtExecContext
}

// get returns the statement of ins on connection dc, prepared at its first use. If the pool has replaced the
// connection, what was prepared on the old one has gone with it.
func (s *statements) get(ctx context.Context, dc any, ins insert) (preparedStmt, error) {
	if s.conn != dc {
		s.conn, s.prepared = dc, make(map[insert]preparedStmt)
	}
	if stmt := s.prepared[ins]; stmt != nil {
		return stmt, nil
	}
	stmt, err := dc.(driver.ConnPrepareContext).PrepareContext(ctx, ins.text(1))
	if err != nil {
		return nil, err
	}
	s.prepared[ins] = stmt.(preparedStmt)
	return s.prepared[ins], nil
}

// close closes the statements that were prepared on dc; those of a connection that is gone went with it.
func (s *statements) close(dc any) {
	if s.conn == dc {
		for _, stmt := range s.prepared {
			_ = stmt.Close() // its connection is closed next
		}
	}
	s.conn, s.prepared = nil, nil
}
