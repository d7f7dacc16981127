package store

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/engine/order"
)

// cancelled is a desk with orders of two lines each, the first n of which are cancelled.
func cancelled(t *testing.T, dialect Dialect, n int) *desk {
	d := newDesk(t, dialect, [2]int64{1000, 50}, [2]int64{1000, 0})
	var records []*order.Record
	for i := range n + 1 {
		records = append(records, d.order(order.UserID(i%3+1), "", 0, i+1, 1, 1))
	}
	d.place(records...)
	for _, r := range records[:n] {
		d.cancelledEvents(r)
	}
	return d
}

// gives reads the stock log: numbers without gaps, and the give-backs among its rows.
func (d *desk) gives() (items [][]order.LogItem) {
	d.t.Helper()
	rows, err := d.StockLog(context.Background(), d.p, 0, 100_000)
	noError(d.t, err)
	for i, r := range rows {
		if r.N != uint64(i)+1 {
			d.t.Errorf("row %d of the stock log has number %d", i+1, r.N)
		}
		if r.Items[0].Op == order.OpGive {
			items = append(items, r.Items)
		}
	}
	if logged := d.part().Logged; logged != uint64(len(rows)) {
		d.t.Errorf("logged is %d, the log has %d rows", logged, len(rows))
	}
	return items
}

func TestGiveBack(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := cancelled(t, dialect, 7)
		d.expect(d.offers[0], 1000-36, map[order.UserID]int64{1: 1 + 4 + 7, 2: 2 + 5 + 8, 3: 3 + 6})
		due := d.due()
		if len(due) != 7 {
			t.Fatalf("%d give-backs are due, want 7", len(due))
		}
		home := d.Home(d.p)
		noError(t, d.GiveBack(ctx, home, due[:3]))                           // and the process died
		noError(t, d.GiveBack(ctx, home, slices.Concat(due[1:5], due[2:6]))) // partly done, partly twice
		noError(t, d.GiveBack(ctx, home, due))                               // all of them, most of them done
		noError(t, d.GiveBack(ctx, home, due))                               // and again
		d.expect(d.offers[0], 1000-8, map[order.UserID]int64{2: 8})
		d.expect(d.offers[1], 1000-1, nil)
		gives := d.gives()
		if len(gives) != 7 {
			t.Errorf("%d rows give back, want 7", len(gives))
		}
		first := []order.LogItem{{Op: order.OpGive, Offer: d.offers[0], User: due[0].User, Units: int64(due[0].Items[0].Quantity)},
			{Op: order.OpGive, Offer: d.offers[1], User: due[0].User, Units: 1}}
		if diff := cmp.Diff(first, gives[0]); diff != "" {
			t.Error(diff)
		}
		for range 2 {
			d.handled(due[:5])
			if n := len(d.due()); n != 2 {
				t.Errorf("%d give-backs are due, want 2", n)
			}
		}
	})
}

func TestGiveBackPutOff(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := cancelled(t, dialect, 3)
		due := d.due()
		for _, g := range due {
			noError(t, d.PutOffGiveBacks(ctx, d.OrderShard(g.Order), []GiveBack{g}, time.Hour))
		}
		if n := len(d.due()); n != 0 {
			t.Errorf("%d give-backs are due within the hour", n)
		}
		for _, g := range due {
			noError(t, d.PutOffGiveBacks(ctx, d.OrderShard(g.Order), []GiveBack{g}, -time.Second))
		}
		if n := len(d.due()); n != 3 {
			t.Errorf("%d give-backs are due after it, want 3", n)
		}
		d.giveBackAll()
		for _, g := range due { // by a mover that is late
			noError(t, d.PutOffGiveBacks(ctx, d.OrderShard(g.Order), []GiveBack{g}, -time.Second))
		}
		if n := len(d.due()); n != 0 {
			t.Errorf("%d handled give-backs are due again", n)
		}
	})
}

func TestGiveBackTooMuch(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := cancelled(t, dialect, 2)
		due := d.due()
		home := d.Home(d.p)
		tooMany, unknown := due[0], due[0]
		tooMany.Items = []order.Line{{Offer: d.offers[0], Quantity: 20}} // sold, but not to this buyer
		unknown.Items = []order.Line{{Offer: 4242, Quantity: 1}}
		for _, bad := range []GiveBack{tooMany, unknown} {
			err := d.GiveBack(context.Background(), home, []GiveBack{due[1], bad})
			if !GiveBackRefused(err) {
				t.Errorf("gave back %v: %v", bad.Items, err)
			}
		}
		if n := len(d.gives()); n != 0 {
			t.Errorf("%d rows in the log of what was refused", n)
		}
		d.expect(d.offers[0], 1000-6, map[order.UserID]int64{1: 1, 2: 2, 3: 3})
	})
}

// walk is a series of random steps at a desk. Crashes are steps that are not taken.
type walk struct {
	*desk
	r       *rapid.T
	user    order.UserID // the first of this walk
	claims  [][]Row
	pending []GiveBack // given back, not marked yet
}

func (w *walk) draw(name string, most int) int { return rapid.IntRange(0, most).Draw(w.r, name) }

func (w *walk) someOrder() *order.Record {
	lines := []int{w.draw("offer", 1), w.draw("quantity", 1) + 1}
	o := w.order(w.user+order.UserID(w.draw("user", 2)), []string{"", "a", "b"}[w.draw("key", 2)], lines...)
	o.Fingerprint = uint64(w.draw("fingerprint", 1))
	return o
}

// place claims a batch; sometimes with an order that an earlier batch had.
func (w *walk) place(*rapid.T) {
	records := []*order.Record{w.someOrder()}
	for range w.draw("more", 2) {
		records = append(records, w.someOrder())
	}
	if len(w.claims) > 0 && w.draw("second claim", 5) == 0 {
		records = append(records, w.claims[w.draw("batch", len(w.claims)-1)][0].Record)
	}
	w.claims = append(w.claims, w.claimed(records...))
}

// flush records some of some batches, in any order.
func (w *walk) flush(*rapid.T) {
	var rows []Row
	for range w.draw("batches", 2) {
		if len(w.claims) > 0 {
			batch := w.claims[w.draw("batch", len(w.claims)-1)]
			rows = append(rows, batch[:w.draw("rows", len(batch))]...)
		}
	}
	w.record([]time.Duration{0, time.Hour}[w.draw("unpaid", 1)], rows...)
}

func (w *walk) cancel(*rapid.T) {
	if len(w.claims) == 0 {
		return
	}
	o := w.claims[w.draw("batch", len(w.claims)-1)][0].Record
	_, _, err := w.Cancel(context.Background(), o.ID, o.User)
	noError(w.t, err)
}

func (w *walk) expire(*rapid.T) {
	_, err := w.ExpireDue(context.Background(), w.draw("shard", w.Shards()-1), 1+w.draw("limit", 3))
	noError(w.t, err)
}

func (w *walk) giveSome(*rapid.T) {
	due := w.due()
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	w.pending = due[:w.draw("give-backs", len(due))]
	noError(w.t, w.GiveBack(context.Background(), w.Home(w.p), w.pending))
}

func (w *walk) markSome(*rapid.T) {
	w.handled(w.pending[:w.draw("marked", len(w.pending))])
}

// check looks at the stock log: every cause once, and a row for each.
func (w *walk) check() {
	given := map[string]bool{}
	rows, err := w.shards[w.Home(w.p)].read.Query("SELECT cause FROM stock_log WHERE cause IS NOT NULL")
	noError(w.t, err)
	defer rows.Close()
	for rows.Next() {
		var cause string
		noError(w.t, rows.Scan(&cause))
		if given[cause] {
			w.r.Errorf("cause %s is in the log twice", cause)
		}
		given[cause] = true
	}
	if n := len(w.gives()); n != len(given) {
		w.r.Errorf("%d rows give back, %d causes", n, len(given))
	}
}

// settle does everything that is left to do, and counts.
func (w *walk) settle() {
	for _, batch := range w.claims {
		w.record(time.Hour, batch...)
	}
	w.expireAll(2)
	w.giveBackAll()
	sold, held := map[order.OfferID]int64{}, map[order.UserID]int64{}
	seen, keys := map[order.ID]bool{}, map[string]bool{}
	for _, batch := range w.claims {
		for _, row := range batch {
			o := w.read(row.Record.ID)
			if !o.Status.Live() || seen[o.ID] {
				continue
			}
			seen[o.ID] = true
			sold[o.Items[0].Offer] += int64(o.Items[0].Quantity)
			if o.Items[0].Offer == w.offers[0] {
				held[o.User] += int64(o.Items[0].Quantity)
			}
			scope := o.ID.String()
			if o.Key != "" {
				scope = order.ID(o.User).String() + o.Key
			}
			if keys[scope] {
				w.r.Errorf("two orders live for key %s", scope)
			}
			keys[scope] = true
		}
	}
	c, err := w.Count(context.Background(), w.p, w.epoch)
	noError(w.t, err)
	for _, o := range c.Offers {
		if (o.Offer == w.offers[0] || o.Offer == w.offers[1]) && 1000-o.Left != sold[o.Offer] {
			w.r.Errorf("%d units of offer %d are sold, %d are in live orders", 1000-o.Left, o.Offer, sold[o.Offer])
		}
	}
	for _, b := range c.Buyers {
		if b.Offer == w.offers[0] && b.Units != held[b.User] {
			w.r.Errorf("user %d holds %d units, the live orders %d", b.User, b.Units, held[b.User])
		}
		if b.Offer == w.offers[0] {
			delete(held, b.User)
		}
	}
	for u, units := range held {
		w.r.Errorf("user %d has live orders of %d units and holds none", u, units)
	}
	w.check()
}

// TestUnitsAreNeitherLostNorMade does things in random order, some of them by halves, and counts the units at the end.
func TestUnitsAreNeitherLostNorMade(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{1, 1})
		user, walks := order.UserID(1), map[Dialect]int{SQLite: 100, MySQL: 20}[dialect]
		rapid.Check(t, func(r *rapid.T) {
			if walks--; walks < 0 && !t.Failed() {
				return // each step is several round trips
			}
			offer := order.Offer{Shop: 1, Group: "g", SKU: "sku", Title: "offer", Kind: order.Flash, UnitPrice: 100, Currency: "CNY", Total: 1000}
			limited := offer
			limited.Limit = 6
			offers, err := d.CreateOffers(context.Background(), []order.Offer{limited, offer})
			noError(t, err)
			d.offers = []order.OfferID{offers[0].ID, offers[1].ID}
			user += 3
			w := &walk{desk: d, r: r, user: user}
			r.Repeat(map[string]func(*rapid.T){"place": w.place, "flush": w.flush, "cancel": w.cancel, "expire": w.expire,
				"give": w.giveSome, "mark": w.markSome})
			w.settle()
		})
	})
}
