package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"sluice/engine/order"
)

// runsMax bounds how often a transaction runs: deadlocks and lock timeouts repeat it, and so does a connection that
// broke under it, because a COMMIT without an answer may have happened or not.
const (
	runsMax     = 8
	lostRunsMax = 3
)

// tx is one writing transaction on one shard. It is used by one goroutine, inside the function given to Store.update.
type tx struct {
	store   *Store
	shard   *shard
	d       *dialect
	kind    order.Kind
	ctx     context.Context
	conn    *sql.Conn
	tx      *sql.Tx
	started time.Time
	// undo, if set, takes back what was done in memory when the transaction was certainly rolled back. It runs under the
	// shard's turn.
	undo func()
}

// update runs f in one transaction on a shard and commits it. It runs f again after a deadlock, a lock that did not
// come, or a lost answer: f starts from nothing each time, and leaves no more behind than a run before it committed.
// kind says whose turn it is on SQLite; writers that belong to no kind pass 0. An error of f rolls back and is returned
// as it is. Every other error means unknown.
func (s *Store) update(ctx context.Context, shard int, kind order.Kind, f func(*tx) error) error {
	sh := s.shards[shard]
	if s.dialect.name == SQLite {
		if err := sh.turn.take(ctx, kind); err != nil {
			return err
		}
		defer sh.turn.give()
		ctx = context.WithoutCancel(ctx)
	}
	lost := 0
	for run := 1; ; run++ {
		begun, err := s.runOnce(ctx, sh, kind, f)
		again := rolledBack(err)
		if begun && connectionLost(err) {
			lost++
			again = lost < lostRunsMax
		}
		if !again || run == runsMax {
			return err
		}
		if err := pause(ctx, run); err != nil {
			return err
		}
	}
}

// pause waits a little before the next run: 1 to 2 ms after the first one, twice as much after each further one.
func pause(ctx context.Context, run int) error {
	d := time.Millisecond << (run - 1)
	timer := time.NewTimer(d + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runOnce runs f in one transaction. begun is false when there was none.
func (s *Store) runOnce(ctx context.Context, sh *shard, kind order.Kind, f func(*tx) error) (begun bool, err error) {
	conn, err := sh.write.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	sqlTx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	done := false
	t := &tx{store: s, shard: sh, d: s.dialect, kind: kind, ctx: ctx, conn: conn, tx: sqlTx, started: time.Now()}
	defer func() {
		if !done {
			_ = sqlTx.Rollback() // the error that led here says more
			t.rolledBack()
		}
	}()
	if err := f(t); err != nil {
		return true, err
	}
	done = true
	if err := sqlTx.Commit(); err != nil {
		if s.dialect.name == SQLite { // a COMMIT that failed on a full disk leaves it inside the transaction
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
		t.afterLostCommit()
		return true, err
	}
	return true, nil
}

// raw calls f with the driver's connection. Neither f's error nor its panic goes through database/sql: of either it would
// close the connection, and wait for the end of the transaction on it, which only this goroutine can end.
func (t *tx) raw(f func(dc any) error) error {
	var failed error
	var panicked any
	var stack []byte
	err := t.conn.Raw(func(dc any) error {
		defer func() {
			if panicked = recover(); panicked != nil {
				stack = debug.Stack()
			}
		}()
		failed = f(dc)
		return nil
	})
	if panicked != nil {
		panic(fmt.Sprintf("BUG: panic with the driver's connection: %v\n%s", panicked, stack))
	}
	return cmp.Or(failed, err)
}

func (t *tx) rolledBack() {
	if t.undo != nil {
		t.undo()
	}
}

// afterLostCommit looks whether a COMMIT that failed had an effect, if something depends on it. On SQLite nobody else
// writes meanwhile, and the run of entries is there if the transaction is.
func (t *tx) afterLostCommit() {
	if t.undo == nil {
		return
	}
	var there int
	row := t.conn.QueryRowContext(t.ctx, "SELECT count(*) FROM order_key_run WHERE n = ?", t.shard.keys.run)
	if row.Scan(&there) == nil && there == 0 {
		t.undo()
	}
}

// spent tells a flush of flash orders on SQLite that it has held the file long enough while ordinary writers wait: it
// commits what it has and goes on in another transaction.
func (t *tx) spent() bool {
	return t.d.name == SQLite && t.kind == order.Flash && time.Since(t.started) >= flashHold && t.shard.turn.wanted(t.kind)
}

// exec runs a statement and returns the number of rows it found (also those that it left as they were).
func (t *tx) exec(query string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// query reads rows inside the transaction: scan is called for each.
func (t *tx) query(query string, scan func(*sql.Rows) error, args ...any) error {
	rows, err := t.tx.QueryContext(t.ctx, query, args...)
	return each(rows, err, scan)
}

// row reads one row inside the transaction.
func (t *tx) row(query string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(t.ctx, query, args...)
}

// now is the database's clock.
func (t *tx) now() (now order.Milli, err error) {
	err = t.row("SELECT " + t.d.now).Scan(&now)
	return now, err
}

// query reads rows outside of any transaction.
func (s *Store) query(ctx context.Context, shard int, query string, scan func(*sql.Rows) error, args ...any) error {
	rows, err := s.shards[shard].read.QueryContext(ctx, query, args...)
	return each(rows, err, scan)
}

// rows runs a query outside of any transaction; the caller closes the rows. On SQLite its statement is kept: preparing it
// costs as much as the reading. It is for queries of few forms.
func (sh *shard) rows(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if sh.keys == nil {
		return sh.read.QueryContext(ctx, query, args...)
	}
	kept, ok := sh.reads.Load(query)
	if !ok {
		stmt, err := sh.read.PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		if kept, ok = sh.reads.LoadOrStore(query, stmt); ok {
			_ = stmt.Close() // somebody else was faster
		}
	}
	return kept.(*sql.Stmt).QueryContext(ctx, args...)
}

func each(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// listMax bounds the values in one IN list; longer lists are read piece by piece.
const listMax = 500

// in calls f with pieces of list as "(?,?,...)" and arguments.
func in[T any](list []T, f func(marks string, args []any) error) error {
	for len(list) > 0 {
		n := min(len(list), listMax)
		args := make([]any, n)
		for i, v := range list[:n] {
			args[i] = v
		}
		if err := f(tuple(n), args); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// tuple is "(?,?,...)" with n marks.
func tuple(n int) string { return "(" + strings.TrimSuffix(strings.Repeat("?,", n), ",") + ")" }

// onShard adds the shard to an error; nil stays nil.
func onShard(err error, what string, shard int) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s on shard %d: %w", what, shard, err)
}

// sortedKeys lists the keys of a map in ascending order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
