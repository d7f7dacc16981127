package store

import (
	"context"
	"database/sql/driver"
	"time"
)

// boundConn is a connection whose transactions end within the context in which they began. The driver's own COMMIT and
// ROLLBACK know none: on a server that hangs they wait for as long as the longest query may take.
type boundConn struct {
	mysqlConn
	broken bool                     // a transaction may be open on it
	sales  map[saleKey]preparedStmt // prepared on it (recordsale.go); they go with it
}

// mysqlConn is what the driver's connections are.
type mysqlConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

// rollbackWait bounds a ROLLBACK. A connection that does not answer it is given up, and with it the transaction.
const rollbackWait = time.Second

// BeginTx begins a transaction that ends within ctx.
func (c *boundConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if _, err := c.mysqlConn.BeginTx(ctx, o); err != nil {
		return nil, err
	}
	return &boundTx{c, ctx}, nil
}

// IsValid tells whether the connection may be used again.
func (c *boundConn) IsValid() bool { return !c.broken && c.mysqlConn.IsValid() }

type boundTx struct {
	conn *boundConn
	ctx  context.Context
}

func (t *boundTx) Commit() error { return t.end(t.ctx, "COMMIT") }

func (t *boundTx) Rollback() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackWait)
	defer cancel()
	return t.end(ctx, "ROLLBACK")
}

func (t *boundTx) end(ctx context.Context, how string) error {
	_, err := t.conn.ExecContext(ctx, how, nil)
	t.conn.broken = t.conn.broken || err != nil
	return err
}
