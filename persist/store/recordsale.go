package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strconv"

	"github.com/go-sql-driver/mysql"

	"sluice/engine/order"
)

// How orders of a sale get into MySQL: by statements that are prepared once per connection and have the columns that all
// these orders share in their text. The server then parses nothing, which is a quarter of what a row costs it.

// saleRows are the rows of such statements. Larger ones gain nothing: a statement's memory is touched at each use.
var saleRows = [...]int{100, 20}

// saleColumns are the columns of a row, first those that are bound.
const saleColumns = "(order_id, batch_id, user_id, idem_key, fingerprint, details, created_at, key_hash, updated_at, unpaid_until," +
	" epoch, shop_id, goods, discount, freight, amount, group_id, currency, items, kind, status, reason, duplicate_of, paid_at)"

const saleBound = saleValues + 2 // of a row; the SQLite statement has the last two in its text

// isSale tells whether all entries are accepted orders of the same goods in the same epoch, as they are in a sale: they
// have the same values in most columns.
func isSale(list []*entry) bool {
	first := list[0].row
	for _, e := range list {
		o, f := e.row.Record, first.Record
		if e.status != order.AwaitingPayment || e.kind != list[0].kind || e.row.Epoch != first.Epoch || o.Shop != f.Shop ||
			o.Discount != f.Discount || o.Freight != f.Freight || o.Group != f.Group || o.Currency != f.Currency || !slices.Equal(o.Items, f.Items) {
			return false
		}
	}
	return true
}

// insertMySQL stores what it can by prepared statements and the rest as text.
func (r *recording) insertMySQL(list []*entry) (clashed []*entry, err error) {
	const least = len(saleRows) - 1
	if len(list) < saleRows[least] || !isSale(list) {
		return r.insertText(list)
	}
	r.text = r.appendSaleRow(r.text[:0], list[0])
	row := string(r.text)
	for at := 0; at < len(saleRows); {
		rows := saleRows[at]
		if len(list) < rows {
			at++
			continue
		}
		more, err := r.insertSale(row, list[:rows])
		if err != nil {
			return nil, err
		}
		clashed, list = append(clashed, more...), list[rows:]
	}
	more, err := r.insertText(list)
	return append(clashed, more...), err
}

// insertSale stores as many entries as one of the statements has rows. If one of them clashes nothing is stored and all
// come back.
func (r *recording) insertSale(row string, list []*entry) (clashed []*entry, err error) {
	prepared := true
	err = r.t.raw(func(dc any) error {
		stmt, err := dc.(*boundConn).sale(r.t.ctx, saleKey{row, len(list)})
		if refused, ok := errors.AsType[*mysql.MySQLError](err); ok && refused.Number == tooManyPrepared {
			prepared = false
			return nil
		}
		if err != nil {
			return err
		}
		_, err = stmt.ExecContext(r.t.ctx, r.bindSales(list))
		return err
	})
	switch {
	case err == nil && prepared:
		for _, e := range list {
			r.count(e)
		}
		return nil, nil
	case duplicateKey(err):
		return list, nil
	case err == nil || rowRefused(err):
		return r.insertText(list) // finds out which row it is
	}
	return nil, err
}

// tooManyPrepared is the code by which a server says that others have prepared all that it keeps.
const tooManyPrepared = 1461

// bindSales are the values of all rows, in the order of saleColumns.
func (r *recording) bindSales(list []*entry) []driver.NamedValue {
	if want := saleBound * len(list); len(r.args) < want {
		r.args = newArgs(want)
	}
	args := r.args[:saleBound*len(list)]
	for i, e := range list {
		of := args[i*saleBound : (i+1)*saleBound]
		r.bindSale(of, e)
		of[saleValues].Value = r.cells.updated.of(int64(r.now))
		of[saleValues+1].Value = r.cells.unpaid.of(int64(r.unpaid))
	}
	return args
}

// appendSaleRow appends a row of the statement for the sale that e is an order of.
func (r *recording) appendSaleRow(dst []byte, e *entry) []byte {
	o := e.row.Record
	goods := o.Goods()
	dst = append(dst, "(?,?,?,?,?,?,?,?,?,?"...)
	for _, n := range [...]int64{int64(e.row.Epoch), int64(o.Shop), int64(goods), int64(o.Discount), int64(o.Freight), int64(goods - o.Discount + o.Freight)} {
		dst = strconv.AppendInt(append(dst, ','), n, 10)
	}
	dst = appendLiteral(append(dst, ','), []byte(o.Group))
	dst = appendLiteral(append(dst, ','), []byte(o.Currency))
	r.cells.encoded(o.Items)
	dst = appendLiteral(append(dst, ','), r.cells.itemsBytes)
	dst = append(append(dst, ",'"...), e.kind.String()...)
	dst = append(append(dst, "','"...), order.AwaitingPayment...)
	return append(dst, "','',0,0)"...)
}

// saleKey is a statement of a sale: its row, so many times.
type saleKey struct {
	row  string
	rows int
}

// keptMax bounds the statements that a connection keeps: each takes about half a megabyte of the server. A row's form
// changes with the offer and the epoch.
const keptMax = 4

// sale returns a statement, prepared at its first use.
func (c *boundConn) sale(ctx context.Context, key saleKey) (preparedStmt, error) {
	if stmt := c.sales[key]; stmt != nil {
		return stmt, nil
	}
	if len(c.sales) >= keptMax {
		for _, stmt := range c.sales {
			_ = stmt.Close() // there is no answer to it
		}
		clear(c.sales)
	}
	text := append(append(append([]byte("INSERT INTO orders "), saleColumns...), " VALUES "...), key.row...)
	for range key.rows - 1 {
		text = append(append(text, ','), key.row...)
	}
	stmt, err := c.PrepareContext(ctx, string(text))
	if err != nil {
		return nil, err
	}
	c.sales[key] = stmt.(preparedStmt)
	return c.sales[key], nil
}
