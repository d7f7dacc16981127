package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/engine/order"
)

// desk is a sale at which orders are placed all the way: claimed and recorded.
type desk struct {
	*sale
	offers []order.OfferID
	given  int // order ids
	start  order.Milli
}

func newDesk(t *testing.T, d Dialect, offers ...[2]int64) *desk {
	t.Helper()
	x, ids := newSale(t, d, offers...)
	return &desk{sale: x, offers: ids, start: order.MilliOf(time.Now())}
}

// order is a new order of a user for pairs of offer index and quantity. An empty key is none.
func (d *desk) order(u order.UserID, key string, lines ...int) *order.Record {
	d.given++
	lines = slices.Clone(lines)
	for i := 0; i < len(lines); i += 2 {
		lines[i] = int(d.offers[lines[i]])
	}
	r := record(order.MakeID(d.start+order.Milli(d.given), 0, order.VirtualShard(u), 0), u, lines...)
	r.Group, r.Key, r.Fingerprint = "g", key, 1
	return &r
}

// claimed claims records as one batch and returns the rows to record.
func (d *desk) claimed(records ...*order.Record) []Row {
	d.t.Helper()
	m := &order.Message{Kind: order.BatchMessage, Partition: d.p, Epoch: d.epoch, Batch: order.BatchID(records[0].ID)}
	for _, r := range records {
		m.Records = append(m.Records, *r)
	}
	verdict := d.claim(m)[0]
	rows := make([]Row, len(records))
	for i, r := range records {
		rows[i] = Row{Record: r, Batch: m.Batch, Epoch: d.epoch, Partition: d.p, Status: order.AwaitingPayment}
	}
	for _, reject := range verdict.Rejects {
		rows[reject.Index].Status, rows[reject.Index].Reason = order.Rejected, reject.Reason
	}
	return rows
}

// record records rows on their users' shards and adds up the answers; indexes of poison are those in rows.
func (d *desk) record(unpaid time.Duration, rows ...Row) (out Recorded) {
	d.t.Helper()
	for shard := range d.Shards() {
		var part []Row
		var index []int
		for i := range rows {
			if d.UserShard(rows[i].Record.User) == shard {
				part, index = append(part, rows[i]), append(index, i)
			}
		}
		r, err := d.Record(context.Background(), shard, part, RecordOptions{Kind: order.Flash, Unpaid: unpaid})
		noError(d.t, err)
		out.Duplicates += r.Duplicates
		out.Alarms += r.Alarms
		for _, p := range r.Poison {
			out.Poison = append(out.Poison, Poison{index[p.Index], p.Err})
		}
	}
	return out
}

// place claims and records orders as one batch.
func (d *desk) place(records ...*order.Record) {
	d.t.Helper()
	d.record(time.Hour, d.claimed(records...)...)
}

func (d *desk) read(id order.ID) *order.Order {
	d.t.Helper()
	o, err := d.Order(context.Background(), id)
	noError(d.t, err)
	if o == nil {
		d.t.Fatalf("order %d is not stored", id)
	}
	return o
}

// due is every give-back that is due, of all shards.
func (d *desk) due() (all []GiveBack) {
	d.t.Helper()
	for shard := range d.Shards() {
		g, err := d.GiveBacksDue(context.Background(), shard, 1000)
		noError(d.t, err)
		all = append(all, g...)
	}
	return all
}

// giveBackAll gives back what is due until nothing is.
func (d *desk) giveBackAll() {
	d.t.Helper()
	for g := d.due(); len(g) > 0; g = d.due() {
		noError(d.t, d.GiveBack(context.Background(), d.Home(d.p), g))
		d.handled(g)
	}
}

func (d *desk) handled(g []GiveBack) {
	d.t.Helper()
	for shard := range d.Shards() {
		var part []GiveBack
		for _, b := range g {
			if d.OrderShard(b.Order) == shard {
				part = append(part, b)
			}
		}
		noError(d.t, d.GaveBack(context.Background(), shard, part))
	}
}

// events are the events of an order as "number type by actor".
func (d *desk) events(id order.ID) (list []string) {
	d.t.Helper()
	const query = "SELECT n, type, actor FROM order_event WHERE order_id = ? AND type <> 'recorded' ORDER BY n"
	noError(d.t, d.query(context.Background(), d.OrderShard(id), query, func(r *sql.Rows) error {
		var n int
		var kind, actor string
		err := r.Scan(&n, &kind, &actor)
		list = append(list, fmt.Sprintf("%d %s by %s", n, kind, actor))
		return err
	}, id))
	return list
}

// flushes are the counts of the events of flushes.
func (d *desk) flushes() (counts []int) {
	d.t.Helper()
	for shard := range d.Shards() {
		noError(d.t, d.query(context.Background(), shard, "SELECT data FROM order_event WHERE type = 'recorded'", func(r *sql.Rows) error {
			var data []byte
			if err := r.Scan(&data); err != nil {
				return err
			}
			var flush struct{ Count int }
			err := json.Unmarshal(data, &flush)
			counts = append(counts, flush.Count)
			return err
		}))
	}
	return counts
}

func sum(list []int) (n int) {
	for _, i := range list {
		n += i
	}
	return n
}

func TestRecordStoresEveryField(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 0}, [2]int64{100, 0})
		full := d.order(1, `k'"\%_;--`, 0, 2, 1, 3)
		full.Shop, full.Fingerprint, full.Discount, full.Freight = order.MaxID, 1<<63+5, 70, 8
		full.Items[0].SKU, full.Items[1].PriceVersion, full.Items[1].UnitPrice = `a"b\c'd`, 4_000_000_000, order.UnitPriceMax
		full.Details = []byte(`{"note":"买家's \\ \"note\" ` + "\x00\n" + `"}`)
		plain := d.order(2, "", 0, 1)
		refused := d.order(3, "key", 1, 1)
		plain.Details = []byte(`{"note":"it's"}`) // each of these alone, too
		refused.Key, refused.Details = "it's", []byte(`{"note":"a\\"}`)
		rows := d.claimed(full, plain, refused)
		rows[2].Status, rows[2].Reason = order.Rejected, order.ReasonSoldOut
		before, err := d.Now(context.Background(), d.UserShard(1))
		noError(t, err)
		if got := d.record(time.Minute, rows...); got.Duplicates+got.Alarms+len(got.Poison) > 0 {
			t.Errorf("recorded with %+v", got)
		}
		for i, row := range rows {
			r := row.Record
			want := &order.Order{ID: r.ID, Batch: rows[0].Batch, Epoch: d.epoch, User: r.User, Shop: r.Shop, Group: "g", Key: r.Key,
				Kind: order.Flash, Status: row.Status, Reason: row.Reason, Fingerprint: r.Fingerprint, Items: r.Items, Goods: r.Goods(),
				Discount: r.Discount, Freight: r.Freight, Amount: r.Amount(), Currency: "CNY", Details: r.Details, Created: r.ID.Time()}
			got := d.read(r.ID)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(order.Order{}, "Updated", "Expires")); diff != "" {
				t.Errorf("order %d: %s", i, diff)
			}
			if got.Updated < before || got.Updated > before+60_000 {
				t.Errorf("order %d was updated at %d, recorded after %d", i, got.Updated, before)
			}
			if want := map[bool]order.Milli{true: got.Updated + 60_000}[row.Status == order.AwaitingPayment]; got.Expires != want {
				t.Errorf("order %d expires at %d, want %d", i, got.Expires, want)
			}
		}
		if n := sum(d.flushes()); n != 3 {
			t.Errorf("the flushes' events count %d orders", n)
		}
		for i, want := range []bool{true, false, false} { // a reject frees its key
			if got := d.holdsKey(rows[i].Record.ID); got != want {
				t.Errorf("order %d holds a key: %v", i, got)
			}
		}
	})
}

func (d *desk) holdsKey(id order.ID) (holds bool) {
	d.t.Helper()
	row := d.shards[d.OrderShard(id)].read.QueryRow("SELECT key_hash IS NOT NULL FROM orders WHERE order_id = ?", id)
	noError(d.t, row.Scan(&holds))
	return holds
}

// oddFlush is a flush with everything that can be odd: a second order of a key, another fingerprint, a reject whose key
// is free again, an order without key, and one that was stored before.
func (d *desk) oddFlush(u order.UserID) []Row {
	first, other := d.order(u, "a", 0, 1), d.order(u+1, "a", 0, 2)
	d.place(first)
	again, reused := d.order(u, "a", 0, 1), d.order(u, "a", 0, 3)
	reused.Fingerprint = 2
	rejected, retry, twice := d.order(u+2, "b", 0, 1), d.order(u+2, "b", 0, 1), d.order(u+2, "b", 0, 1)
	rows := d.claimed(other, again, reused, rejected, retry, twice, d.order(u+3, "", 0, 1), d.order(u+3, "", 0, 1))
	rows[3].Status, rows[3].Reason = order.Rejected, order.ReasonSoldOut
	return append(rows, Row{Record: first, Batch: order.BatchID(first.ID), Epoch: d.epoch, Partition: d.p, Status: order.AwaitingPayment})
}

// outcome is what a row became, with the order it duplicates as an index of rows.
func (d *desk) outcome(rows []Row) (list []string) {
	for _, row := range rows {
		o := d.read(row.Record.ID)
		first := slices.IndexFunc(rows, func(r Row) bool { return r.Record.ID == o.DuplicateOf })
		list = append(list, fmt.Sprint(o.Status, " ", o.Reason, " ", first, " ", d.events(o.ID)))
	}
	return list
}

func TestRecordAfterACrash(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100_000, 0})
		want := []string{
			"awaiting_payment  -1 []",
			"rejected duplicate 8 [1 duplicate by record]",
			"rejected key_reused 8 [1 duplicate by record]",
			"rejected sold_out -1 []",
			"awaiting_payment  -1 []",
			"rejected duplicate 4 [1 duplicate by record]",
			"awaiting_payment  -1 []",
			"awaiting_payment  -1 []",
			"awaiting_payment  -1 []",
		}
		for n := range len(want) + 1 {
			rows := d.oddFlush(order.UserID(10 * (n + 1)))
			d.record(time.Hour, rows[:n]...) // and then the process died
			recorded := sum(d.flushes())
			d.record(time.Hour, rows...)
			if diff := cmp.Diff(want, d.outcome(rows)); diff != "" {
				t.Fatalf("after a flush of the first %d: %s", n, diff)
			}
			if got := sum(d.flushes()) - recorded; got != len(rows)-1-min(n, len(rows)-1) {
				t.Errorf("the second flush counts %d new orders after %d", got, n)
			}
			if got := d.record(time.Hour, rows...); got.Duplicates+got.Alarms+len(got.Poison) > 0 {
				t.Errorf("the third time: %+v", got)
			}
			if diff := cmp.Diff(want, d.outcome(rows)); diff != "" {
				t.Fatalf("after the third flush: %s", diff)
			}
			if got := len(d.due()); got != 3 {
				t.Errorf("%d give-backs are due, want 3", got)
			}
			d.giveBackAll()
		}
	})
}

func TestRecordCountsDuplicates(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 0})
		if got := d.record(time.Hour, d.oddFlush(1)...); got.Duplicates != 3 || got.Alarms != 0 || len(got.Poison) != 0 {
			t.Errorf("recorded with %+v", got)
		}
	})
}

func TestRecordSecondClaim(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 5})
		o := d.order(1, "a", 0, 2)
		d.place(o)
		second := d.claimed(d.order(1, "b", 0, 1), o)
		for i := range 2 {
			if got := d.record(time.Hour, second...); got.Alarms != 1 {
				t.Errorf("recorded with %+v", got)
			}
			if diff := cmp.Diff([]string{"1 second_claim by record"}, d.events(o.ID)); diff != "" {
				t.Errorf("after flush %d: %s", i, diff)
			}
		}
		d.expect(d.offers[0], 95, map[order.UserID]int64{1: 5})
		d.giveBackAll()
		d.expect(d.offers[0], 97, map[order.UserID]int64{1: 3})
		if got := d.read(o.ID); got.Status != order.AwaitingPayment || got.Batch != order.BatchID(o.ID) {
			t.Errorf("the order is now %+v", got)
		}
		rejected := second[1]
		rejected.Batch, rejected.Status, rejected.Reason = 77, order.Rejected, order.ReasonCut
		if got := d.record(time.Hour, rejected); got.Alarms != 1 || len(d.due()) != 0 {
			t.Errorf("a rejected second claim: %+v, due %v", got, d.due())
		}
	})
}

func TestRecordSecondClaimInTheSameFlush(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 5})
		o := d.order(1, "a", 0, 1)
		rows := append(d.claimed(o), d.claimed(d.order(1, "", 0, 1), o)...)
		if got := d.record(time.Hour, rows...); got.Alarms != 1 {
			t.Errorf("recorded with %+v", got)
		}
		d.giveBackAll()
		d.expect(d.offers[0], 98, map[order.UserID]int64{1: 2})
	})
}

// forbidShop makes every shard refuse orders of a shop, as a database refuses a row that does not fit.
func (d *desk) forbidShop(shop order.ShopID) { d.forbid(fmt.Sprintf("@shop_id = %d", shop)) }

// forbid makes every shard refuse the orders that a condition is true of; columns are written @column.
func (d *desk) forbid(condition string) {
	d.t.Helper()
	d.onOrders("CREATE TRIGGER forbid BEFORE INSERT ON orders WHEN "+strings.ReplaceAll(condition, "@", "NEW.")+
		" BEGIN SELECT RAISE(ABORT, 'forbidden'); END",
		"ALTER TABLE orders ADD CONSTRAINT forbidden CHECK (NOT ("+strings.ReplaceAll(condition, "@", "")+"))")
}

// allow takes forbid back.
func (d *desk) allow() {
	d.t.Helper()
	d.onOrders("DROP TRIGGER forbid", "ALTER TABLE orders DROP CONSTRAINT forbidden")
}

func (d *desk) onOrders(sqlite, mysql string) {
	d.t.Helper()
	text := sqlite
	if d.dialect.name == MySQL {
		text = mysql
	}
	for _, sh := range d.shards {
		_, err := sh.write.Exec(text)
		noError(d.t, err)
	}
}

func TestRecordPoison(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{10_000, 0})
		d.forbidShop(666)
		first := d.order(500, "a", 0, 1)
		d.place(first)
		var records []*order.Record
		poison := map[int]bool{0: true, 17: true, 18: true, 599: true, 601: true}
		for i := range 602 {
			r := d.order(order.UserID(i), "a", 0, 1) // 500 has that key already
			if poison[i] {
				r.Shop = 666
			}
			records = append(records, r)
		}
		rows := d.claimed(records...)
		for range 2 {
			got := d.record(time.Hour, rows...)
			if len(got.Poison) != len(poison) {
				t.Errorf("%d rows are poison, want %d", len(got.Poison), len(poison))
			}
			for _, p := range got.Poison {
				if !poison[p.Index] || !strings.Contains(p.Err, "forbidden") {
					t.Errorf("row %d is poison: %s", p.Index, p.Err)
				}
			}
		}
		for i, r := range records {
			o, err := d.Order(context.Background(), r.ID)
			noError(t, err)
			if (o == nil) != poison[i] {
				t.Errorf("row %d: stored %v", i, o != nil)
			}
			if i == 500 && o.DuplicateOf != first.ID {
				t.Errorf("row 500 is a duplicate of %d, want %d", o.DuplicateOf, first.ID)
			}
		}
	})
}

func TestRecordTooLong(t *testing.T) {
	needMySQL(t)
	d := newDesk(t, MySQL, [2]int64{100, 0})
	bad, good := d.order(1, "", 0, 1), d.order(2, "", 0, 1)
	bad.Currency = "EURO"
	if got := d.record(time.Hour, d.claimed(bad, good)...); len(got.Poison) != 1 || got.Poison[0].Index != 0 {
		t.Errorf("recorded with %+v", got)
	}
	d.read(good.ID)
}

func TestRecordAtOnce(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{10_000, 0})
		const n = 40
		var rows []Row
		for i := range n { // two orders of each key, in two flushes
			rows = append(rows, d.claimed(d.order(order.UserID(i), "a", 0, 1), d.order(order.UserID(i), "b", 0, 1))...)
			rows = append(rows, d.claimed(d.order(order.UserID(i), "a", 0, 1), d.order(order.UserID(i), "b", 0, 1))...)
		}
		race(4, func(i int) {
			mine := slices.Clone(rows)
			if i%2 == 1 {
				slices.Reverse(mine)
			}
			d.record(time.Hour, mine[i*10:len(mine)-(3-i)*10]...)
		})
		d.record(time.Hour, rows...)
		live := map[string]int{}
		for _, row := range rows {
			if o := d.read(row.Record.ID); o.Status == order.AwaitingPayment {
				live[fmt.Sprint(o.User, o.Key)]++
			}
		}
		for key, orders := range live {
			if orders != 1 {
				t.Errorf("%d orders live for key %s", orders, key)
			}
		}
		if len(live) != 2*n || len(d.due()) != 2*n {
			t.Errorf("%d orders live and %d are to be given back, want %d each", len(live), len(d.due()), 2*n)
		}
		if got := sum(d.flushes()); got != len(rows) {
			t.Errorf("the flushes' events count %d orders of %d", got, len(rows))
		}
	})
}

// TestRecordGivesWay holds a file with a long flush of flash orders while an ordinary writer wants it.
func TestRecordGivesWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t, SQLite, [2]int64{10_000, 0})
	var rows []Row
	for len(rows) < 10_000 {
		r := d.order(1, fmt.Sprint(len(rows)), 0, 1)
		rows = append(rows, Row{Record: r, Batch: order.BatchID(r.ID), Epoch: 1, Partition: d.p, Status: order.AwaitingPayment})
	}
	recorded := make(chan struct{})
	ordinary := make(chan error)
	go func() {
		for {
			select {
			case <-recorded:
				close(ordinary)
				return
			default:
			}
			if err := d.update(context.Background(), d.UserShard(1), order.Normal, func(*tx) error { return nil }); err != nil {
				ordinary <- err
				return
			}
		}
	}()
	d.record(time.Hour, rows...)
	close(recorded)
	noError(t, <-ordinary)
	if flushes := d.flushes(); sum(flushes) != len(rows) || len(flushes) < 2 {
		t.Errorf("%d orders in %d transactions, want %d in several", sum(flushes), len(flushes), len(rows))
	}
}
