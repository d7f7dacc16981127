package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/engine/order"
)

// oneConnection lets every shard have one writing connection, and calls f with it.
func (d *desk) oneConnection(f func(c *boundConn)) {
	d.t.Helper()
	for _, sh := range d.shards {
		sh.write.SetMaxOpenConns(1)
		conn, err := sh.write.Conn(context.Background())
		noError(d.t, err)
		noError(d.t, conn.Raw(func(dc any) error {
			f(dc.(*boundConn))
			return nil
		}))
		noError(d.t, conn.Close())
	}
}

// saleOrders are orders of one sale, odd in what differs from order to order.
func (d *desk) saleOrders(n int) (records []*order.Record) {
	details := [][]byte{nil, []byte(`{"note":"买家's \\ \"note\" ` + "\x00\n" + `"}`), []byte(`{}`)}
	for i := range n {
		r := d.order(order.UserID(i+1), fmt.Sprintf(`k'"\%%_;--%d`, i), 0, 2, 1, 3)
		if i%5 == 0 {
			r.Key = ""
		}
		r.Shop, r.Discount, r.Freight, r.Group = order.MaxID, 70, 8, "g"
		r.Fingerprint, r.Details = 1<<63+uint64(i), details[i%len(details)]
		r.Items[0].SKU, r.Items[1].UnitPrice = `a"b\c'd`, order.UnitPriceMax
		records = append(records, r)
	}
	return records
}

// TestRecordSale records a sale whose orders go in by statements of their own, and among them one that is stored already,
// one whose key another order holds, and some that the database refuses. Recorded again, nothing changes.
func TestRecordSale(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100_000, 0}, [2]int64{100_000, 0})
		const n, stored, second = 700, 123, 321
		records := d.saleOrders(n)
		rows := d.claimed(records...)
		poison := map[int]bool{17: true, 450: true, 699: true}
		for i := range poison {
			records[i].User = 13
			records[i].ID = order.MakeID(records[i].ID.Time(), 0, order.VirtualShard(13), uint8(i))
		}
		d.forbid("@user_id = 13 AND @created_at > 0")
		poison[12] = true // whose user is 13, too
		d.record(time.Minute, rows[stored])
		first := d.order(records[second].User, records[second].Key, 0, 1)
		d.place(first)
		for run := range 2 {
			got := d.record(time.Minute, rows...)
			if len(got.Poison) != len(poison) || got.Duplicates != 1-run || got.Alarms != 0 {
				t.Errorf("recorded with %+v", got)
			}
			for _, p := range got.Poison {
				if !poison[p.Index] {
					t.Errorf("row %d is poison: %s", p.Index, p.Err)
				}
			}
		}
		for i, r := range records {
			if poison[i] {
				continue
			}
			want := &order.Order{ID: r.ID, Batch: rows[0].Batch, Epoch: d.epoch, User: r.User, Shop: r.Shop, Group: "g", Key: r.Key,
				Kind: order.Flash, Status: order.AwaitingPayment, Fingerprint: r.Fingerprint, Items: r.Items, Goods: r.Goods(),
				Discount: r.Discount, Freight: r.Freight, Amount: r.Amount(), Currency: "CNY", Details: r.Details, Created: r.ID.Time()}
			if i == second {
				want.Status, want.Reason, want.DuplicateOf = order.Rejected, order.ReasonKeyReused, first.ID
			}
			got := d.read(r.ID)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(order.Order{}, "Updated", "Expires")); diff != "" {
				t.Errorf("order %d: %s", i, diff)
			}
			if i != second && (got.Expires != got.Updated+60_000 || d.holdsKey(r.ID) != (r.Key != "")) {
				t.Errorf("order %d: updated %d, expires %d, holds its key %v", i, got.Updated, got.Expires, d.holdsKey(r.ID))
			}
		}
	})
}

// TestSaleStatementsAreBounded records more sales than a connection keeps statements for.
func TestSaleStatementsAreBounded(t *testing.T) {
	needMySQL(t)
	d := newDesk(t, MySQL, [2]int64{100_000, 0}, [2]int64{100_000, 0})
	d.oneConnection(func(*boundConn) {})
	for shop := range order.ShopID(keptMax + 3) {
		records := d.saleOrders(60)
		for _, r := range records {
			r.Shop, r.Key = shop+1, ""
		}
		d.place(records...)
		d.read(records[59].ID)
	}
	d.oneConnection(func(c *boundConn) {
		if len(c.sales) == 0 || len(c.sales) > keptMax {
			t.Errorf("%d statements are kept", len(c.sales))
		}
	})
}

// unprepared is a connection to a server that prepares no more.
type unprepared struct{ mysqlConn }

func (unprepared) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return nil, &mysql.MySQLError{Number: tooManyPrepared}
}

// TestRecordUnprepared records a sale on a server whose statements others have used up.
func TestRecordUnprepared(t *testing.T) {
	needMySQL(t)
	d := newDesk(t, MySQL, [2]int64{100_000, 0}, [2]int64{100_000, 0})
	d.oneConnection(func(c *boundConn) { c.mysqlConn = unprepared{c.mysqlConn} })
	records := d.saleOrders(300)
	d.place(records...)
	for _, r := range records {
		d.read(r.ID)
	}
}

// lostAtPrepare is a connection that turns out to be broken when a statement is prepared on it, before anything was sent.
type lostAtPrepare struct{ mysqlConn }

func (c lostAtPrepare) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return nil, errors.Join(c.Close(), driver.ErrBadConn)
}

// TestConnectionLostUnderASale records a sale over connections that break: it goes on over others, and waits for nothing.
func TestConnectionLostUnderASale(t *testing.T) {
	needMySQL(t)
	d := newDesk(t, MySQL, [2]int64{100_000, 0}, [2]int64{100_000, 0})
	records := d.saleOrders(300)
	rows := d.claimed(records...)
	d.oneConnection(func(c *boundConn) { c.mysqlConn = lostAtPrepare{c.mysqlConn} })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for shard := range d.Shards() {
		part := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return d.UserShard(r.Record.User) != shard })
		_, err := d.Record(ctx, shard, part, RecordOptions{Kind: order.Flash, Unpaid: time.Minute})
		noError(t, err)
	}
	for _, r := range records {
		d.read(r.ID)
	}
}
