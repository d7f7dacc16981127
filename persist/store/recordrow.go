package store

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"

	"sluice/engine/order"
)

// How a row gets into the table of orders. This is the costliest loop of the whole program: values that a statement's
// rows share are part of its text, values that neighbouring rows share are converted once.

// orderColumns are the columns of an insert: first those that differ from row to row, then those in the text.
const orderColumns = "(order_id, batch_id, epoch, user_id, shop_id, group_id, idem_key, fingerprint, goods, discount, freight," +
	" amount, currency, items, details, created_at, updated_at, key_hash, unpaid_until, reason, duplicate_of, kind, status, paid_at)"

const orderValues = 19 // bound per row, in either form of the statement

// orderInserts are the SQLite statements by kind and by whether the order was accepted.
var orderInserts = insertTexts()

func insertTexts() map[order.Kind][2]string {
	texts := make(map[order.Kind][2]string)
	for _, kind := range order.Kinds {
		const head = "INSERT INTO orders " + orderColumns + " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
		tail := ",'" + kind.String() + "','"
		texts[kind] = [2]string{
			head + "NULL,NULL,?,?" + tail + string(order.Rejected) + "',0)",
			head + "?,?,'',0" + tail + string(order.AwaitingPayment) + "',0)",
		}
	}
	return texts
}

// insertBound binds row after row to a prepared statement, below database/sql. A row that fails leaves the transaction
// as it was.
func (r *recording) insertBound(list []*entry) (clashed []*entry, err error) {
	err = r.t.raw(func(dc any) error {
		bound := &boundInsert{r: r, dc: dc}
		if err := bound.sale(list); err != nil {
			return err
		}
		defer bound.close()
		index := r.t.shard.keys
		for _, e := range list {
			if e.keyed() && !e.looked && index.mayHold(e.row.Record.User, e.hash) {
				clashed = append(clashed, e)
				continue
			}
			err := bound.insert(e)
			switch {
			case err == nil:
				r.count(e)
				key := newKeyEntry(e)
				index.add(key)
				r.keys = append(r.keys, key)
			case duplicateKey(err):
				clashed = append(clashed, e)
			case rowRefused(err):
				r.refuse(e, err)
			default:
				return err
			}
		}
		return nil
	})
	return clashed, err
}

// boundInsert inserts entries by a prepared statement.
type boundInsert struct {
	r    *recording
	dc   any
	stmt preparedStmt
	args []driver.NamedValue
	same bool // stmt is that of a sale: all entries have the same values for the columns in its text

	kind   order.Kind
	status order.Status
}

// saleMin is the number of entries for which a statement of their own is worth preparing.
const saleMin = 64

// saleInsert is the SQLite statement for accepted orders of the same goods in the same epoch.
const saleInsert = "INSERT INTO orders (order_id, batch_id, user_id, idem_key, fingerprint, details, created_at, key_hash," +
	" epoch, shop_id, goods, discount, freight, amount, updated_at, unpaid_until, group_id, currency, items, kind, status, reason," +
	" duplicate_of, paid_at) VALUES (?,?,?,?,?,?,?,?," +
	"%d,%d,%d,%d,%d,%d,%d,%d,CAST(X'%x' AS TEXT),CAST(X'%x' AS TEXT),X'%x','%s','%s','',0,0)"

const saleValues = 8 // bound per row

// sale prepares a statement for the whole list, if all of it are orders of the same goods, as they are in a sale: most columns are
// then in its text. Only numbers and hexadecimal digits get there.
func (b *boundInsert) sale(list []*entry) error {
	if len(list) < saleMin || !isSale(list) {
		return nil
	}
	first := list[0].row
	o, goods := first.Record, first.Record.Goods()
	text := fmt.Sprintf(saleInsert, first.Epoch, o.Shop, goods, o.Discount, o.Freight, goods-o.Discount+o.Freight, b.r.now, b.r.unpaid,
		o.Group, o.Currency, appendItems(nil, o.Items), list[0].kind, order.AwaitingPayment)
	stmt, err := b.dc.(driver.ConnPrepareContext).PrepareContext(b.r.t.ctx, text)
	if err != nil {
		return err
	}
	b.stmt, b.same, b.args = stmt.(preparedStmt), true, newArgs(saleValues)
	return nil
}

func newArgs(n int) []driver.NamedValue {
	args := make([]driver.NamedValue, n)
	for i := range args {
		args[i].Ordinal = i + 1
	}
	return args
}

// close closes the statement of a sale; the others stay prepared.
func (b *boundInsert) close() {
	if b.same {
		_ = b.stmt.Close() // nothing depends on it any more
	}
}

func (b *boundInsert) insert(e *entry) error {
	switch {
	case b.same:
		b.r.bindSale(b.args, e)
	case b.stmt == nil || e.kind != b.kind || e.status != b.status:
		accepted := 0
		if e.status == order.AwaitingPayment {
			accepted = 1
		}
		stmt, err := b.r.t.shard.stmts.prepare(b.r.t.ctx, b.dc, orderInserts[e.kind][accepted])
		if err != nil {
			return err
		}
		b.stmt, b.args, b.kind, b.status = stmt, newArgs(orderValues), e.kind, e.status
		fallthrough
	default:
		b.r.bind(b.args, e)
	}
	_, err := b.stmt.ExecContext(b.r.t.ctx, b.args)
	return err
}

// bindSale sets the values of a row, in the order of saleInsert.
func (r *recording) bindSale(args []driver.NamedValue, e *entry) {
	o, c := e.row.Record, &r.cells
	args[0].Value = int64(o.ID)
	args[1].Value = c.batch.of(int64(e.row.Batch))
	args[2].Value = int64(o.User)
	args[3].Value = o.Key
	args[4].Value = int64(o.Fingerprint)
	args[5].Value = detailsOf(o)
	args[6].Value = int64(o.ID.Time())
	args[7].Value = boundHash(e)
}

// detailsOf and boundHash are nil for an order without.
func detailsOf(o *order.Record) any {
	if o.Details == nil {
		return nil
	}
	return o.Details
}

func boundHash(e *entry) any {
	if !e.keyed() {
		return nil
	}
	return int64(e.hash)
}

// prepare returns the statement of a text on connection dc, prepared at its first use.
func (s *statements) prepare(ctx context.Context, dc any, text string) (preparedStmt, error) {
	if s.conn != dc {
		s.conn, s.prepared = dc, make(map[insert]preparedStmt)
	}
	key := insert{into: text}
	if stmt := s.prepared[key]; stmt != nil {
		return stmt, nil
	}
	stmt, err := dc.(driver.ConnPrepareContext).PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.prepared[key] = stmt.(preparedStmt)
	return s.prepared[key], nil
}

// cells remember the last value of columns that repeat from row to row as the driver wants it: a conversion to an
// interface allocates.
type cells struct {
	batch, epoch, shop, goods, discount, freight, amount, updated, unpaid cell[int64]
	group, currency                                                       cell[string]
	items                                                                 []order.Item
	itemsBytes                                                            []byte
	itemsValue                                                            any
}

type cell[T comparable] struct {
	last  T
	value any
}

func (c *cell[T]) of(v T) any {
	if c.value == nil || c.last != v {
		c.last, c.value = v, v
	}
	return c.value
}

// encoded is the stored form of items; it is valid until the next call.
func (c *cells) encoded(items []order.Item) any {
	if c.itemsValue == nil || !slices.Equal(items, c.items) {
		c.items = items
		c.itemsBytes = appendItems(c.itemsBytes[:0], items)
		c.itemsValue = c.itemsBytes
	}
	return c.itemsValue
}

// bind sets the values of a row, in the order of orderColumns.
func (r *recording) bind(args []driver.NamedValue, e *entry) {
	o, c := e.row.Record, &r.cells
	goods := o.Goods()
	args[0].Value = int64(o.ID)
	args[1].Value = c.batch.of(int64(e.row.Batch))
	args[2].Value = c.epoch.of(int64(e.row.Epoch))
	args[3].Value = int64(o.User)
	args[4].Value = c.shop.of(int64(o.Shop))
	args[5].Value = c.group.of(o.Group)
	args[6].Value = o.Key
	args[7].Value = int64(o.Fingerprint)
	args[8].Value = c.goods.of(int64(goods))
	args[9].Value = c.discount.of(int64(o.Discount))
	args[10].Value = c.freight.of(int64(o.Freight))
	args[11].Value = c.amount.of(int64(goods - o.Discount + o.Freight))
	args[12].Value = c.currency.of(o.Currency)
	args[13].Value = c.encoded(o.Items)
	args[14].Value = detailsOf(o)
	args[15].Value = int64(o.ID.Time())
	args[16].Value = c.updated.of(int64(r.now))
	if e.status == order.Rejected {
		args[17].Value, args[18].Value = string(e.reason), int64(e.duplicateOf)
		return
	}
	args[17].Value = boundHash(e)
	args[18].Value = c.unpaid.of(int64(r.unpaid))
}

// insertText sends one statement with all rows as text. If one of them clashes nothing of the statement is stored and
// all come back; if the database refuses one, halves are tried until it is found.
func (r *recording) insertText(list []*entry) (clashed []*entry, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	r.text = append(append(append(r.text[:0], "INSERT INTO orders "...), orderColumns...), " VALUES "...)
	for i, e := range list {
		if i > 0 {
			r.text = append(r.text, ',')
		}
		r.text = r.appendRow(r.text, e)
	}
	_, err = r.t.tx.ExecContext(r.t.ctx, string(r.text))
	switch {
	case err == nil:
		for _, e := range list {
			r.count(e)
		}
		return nil, nil
	case duplicateKey(err):
		return list, nil
	case !rowRefused(err):
		return nil, err
	case len(list) == 1:
		r.refuse(list[0], err)
		return nil, nil
	}
	half := len(list) / 2
	clashed, err = r.insertText(list[:half])
	if err != nil {
		return nil, err
	}
	more, err := r.insertText(list[half:])
	return append(slices.Clip(clashed), more...), err
}

// appendRow appends a row as a parenthesis of literals, in the order of orderColumns.
func (r *recording) appendRow(dst []byte, e *entry) []byte {
	o := e.row.Record
	goods := o.Goods()
	dst = append(dst, '(')
	for _, n := range [...]int64{int64(o.ID), int64(e.row.Batch), int64(e.row.Epoch), int64(o.User), int64(o.Shop)} {
		dst = append(strconv.AppendInt(dst, n, 10), ',')
	}
	dst = append(appendLiteral(dst, []byte(o.Group)), ',')
	dst = append(appendLiteral(dst, []byte(o.Key)), ',')
	for _, n := range [...]int64{int64(o.Fingerprint), int64(goods), int64(o.Discount), int64(o.Freight), int64(goods - o.Discount + o.Freight)} {
		dst = append(strconv.AppendInt(dst, n, 10), ',')
	}
	dst = append(appendLiteral(dst, []byte(o.Currency)), ',')
	r.cells.encoded(o.Items)
	dst = append(appendLiteral(dst, r.cells.itemsBytes), ',')
	if o.Details == nil {
		dst = append(dst, "NULL,"...)
	} else {
		dst = append(appendLiteral(dst, o.Details), ',')
	}
	dst = append(strconv.AppendInt(dst, int64(o.ID.Time()), 10), ',')
	dst = append(strconv.AppendInt(dst, int64(r.now), 10), ',')
	if e.keyed() {
		dst = append(strconv.AppendInt(dst, int64(e.hash), 10), ',')
	} else {
		dst = append(dst, "NULL,"...)
	}
	if e.status == order.Rejected {
		dst = append(dst, "NULL,"...)
	} else {
		dst = append(strconv.AppendInt(dst, int64(r.unpaid), 10), ',')
	}
	dst = append(appendLiteral(dst, []byte(e.reason)), ',')
	dst = append(strconv.AppendUint(dst, uint64(e.duplicateOf), 10), ",'"...)
	dst = append(append(dst, e.kind.String()...), "','"...)
	dst = append(append(dst, e.status...), "',0)"...)
	return dst
}

// appendLiteral appends b as a MySQL literal that means the same in every SQL mode: between quotes when b is printable
// ASCII without quote and backslash, else in hexadecimal.
func appendLiteral(dst, b []byte) []byte {
	for _, c := range b {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			return append(hex.AppendEncode(append(dst, "X'"...), b), '\'')
		}
	}
	return append(append(append(dst, '\''), b...), '\'')
}

// rowRefused tells whether the database refused a row for what is in it, apart from a duplicate key: the shard is well,
// and the row will never be stored.
func rowRefused(err error) bool {
	if duplicateKey(err) {
		return false
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		const tooBig, constraint, mismatch = 18, 19, 20
		code := e.Code() & 0xff
		return code == tooBig || code == constraint || code == mismatch
	}
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return false
	}
	switch e.Number {
	case 1265, 1366, 3819, 4025: // truncated, wrong text, CHECK (MySQL, MariaDB)
		return true
	}
	// Classes of SQLSTATE: data, integrity, raised by a trigger.
	class := string(e.SQLState[:2])
	return class == "22" || class == "23" || class == "45"
}
