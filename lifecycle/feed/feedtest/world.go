package feedtest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
	"sluice/persist/store"
)

// world is a store with one offer, and what became of its orders.
type world struct {
	*store.Store
	t       *testing.T
	feed    Feed
	offer   order.Offer
	p       order.Partition
	epoch   order.Epoch
	start   order.Milli
	details []byte

	mu     sync.Mutex
	placed int
	orders []order.ID // in the order of their ids
	user   map[order.ID]order.UserID
	want   map[order.ID][]string // the types of an order's events, in order
}

// longDetails are as long as details may be.
var longDetails = []byte(`{"address":{"name":"N","phone":"P","region":"` + strings.Repeat("r", 200) + `","line":"L"},"delivery_method":"` +
	strings.Repeat("d", 64) + `","note":"` + strings.Repeat("n", 500) + `"}`)

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t: t, start: order.MilliOf(time.Now()), user: map[order.ID]order.UserID{}, want: map[order.ID][]string{}}
	var err error
	w.Store, err = store.Open(t.Context(), store.Options{Dialect: store.SQLite, Deadline: time.Second, Partitions: order.Partitions{Normal: 1, Flash: 1},
		Shards: []string{filepath.Join(dir, "shard-0.db"), filepath.Join(dir, "shard-1.db")}})
	w.noError(err)
	t.Cleanup(func() { w.noError(w.Store.Close()) })
	offers, err := w.CreateOffers(t.Context(), []order.Offer{{Shop: 9, Group: "g", SKU: "sku", Title: "offer", Kind: order.Flash, UnitPrice: 100,
		Currency: "CNY", Total: 1_000_000}})
	w.noError(err)
	w.offer, w.p = offers[0], w.Partitions().Of(order.Flash, "g")
	var ok bool
	if w.epoch, ok, err = w.BeginRebuild(t.Context(), w.p, 0, true); err != nil || !ok {
		t.Fatal(ok, err)
	}
	_, err = w.Claim(t.Context(), w.Home(w.p), []*order.Message{{Kind: order.BarrierMessage, Partition: w.p, Epoch: w.epoch}})
	w.noError(err)
	return w
}

func (w *world) noError(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// place records n orders, each of a user of its own but the last, which repeats the key of the one before. It is safe for
// concurrent use.
func (w *world) place(n int) (ids []order.ID) {
	m := &order.Message{Kind: order.BatchMessage, Partition: w.p, Epoch: w.epoch}
	w.mu.Lock()
	for i := range n {
		w.placed++
		user, ms := order.UserID(w.placed), w.placed*7919%5000 // ids of one flush lie between those of others
		if i > 0 && i == n-1 {
			user, ms = user-1, 6000 // the later order of a key is the second one
		}
		id := order.MakeID(w.start+order.Milli(ms), uint8(w.placed>>8), order.VirtualShard(user), uint8(w.placed))
		item := order.Item{Line: order.Line{Offer: w.offer.ID, Quantity: 1}, UnitPrice: 100, PriceVersion: 1, SKU: "sku"}
		m.Records = append(m.Records, order.Record{ID: id, User: user, Shop: 9, Currency: "CNY", Group: "g", Key: fmt.Sprint("k", user), Items: []order.Item{item}, Details: w.details})
	}
	w.mu.Unlock()
	m.Batch = order.BatchID(m.Records[0].ID)
	_, err := w.Claim(w.t.Context(), w.Home(w.p), []*order.Message{m})
	w.noError(err)
	rows := make([][]store.Row, w.Shards())
	for i := range m.Records {
		r := &m.Records[i]
		shard := w.UserShard(r.User)
		rows[shard] = append(rows[shard], store.Row{Record: r, Batch: m.Batch, Epoch: m.Epoch, Partition: m.Partition, Status: order.AwaitingPayment})
		ids = append(ids, r.ID)
	}
	for shard := range rows {
		_, err := w.Record(w.t.Context(), shard, rows[shard], store.RecordOptions{Kind: order.Flash, Unpaid: time.Hour})
		w.noError(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, id := range ids {
		w.user[id], w.want[id] = m.Records[i].User, []string{"recorded"}
		if i > 0 && i == n-1 {
			w.want[id] = []string{"recorded", "duplicate"}
		}
	}
	w.orders = append(w.orders, ids...)
	return ids
}

// change cancels every third order that can be cancelled.
func (w *world) change() {
	w.mu.Lock()
	ids := w.orders
	w.mu.Unlock()
	for i, id := range ids {
		if i%3 == 0 {
			w.cancel(id)
		}
	}
}

func (w *world) cancel(id order.ID) {
	_, changed, err := w.Cancel(context.Background(), id, w.userOf(id))
	w.noError(err)
	if changed {
		w.mu.Lock()
		w.want[id] = append(w.want[id], "cancelled")
		w.mu.Unlock()
	}
}

func (w *world) userOf(id order.ID) order.UserID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.user[id]
}

// crowd lets hands record and cancel at once, each so many times.
func (w *world) crowd(hands, times int) {
	var crowd sync.WaitGroup
	for range hands {
		crowd.Go(func() {
			for range times {
				for i, id := range w.place(20) {
					if i%2 == 0 {
						w.cancel(id)
					}
				}
			}
		})
	}
	crowd.Wait()
}

// complete waits until the feed has everything that has happened, and holds it to what readers may rely on.
func (w *world) complete() {
	w.t.Helper()
	got := map[order.ID][]string{}
	for shard := range w.Shards() {
		want := 0
		for id, types := range w.want {
			if w.OrderShard(id) == shard {
				want += len(types)
			}
		}
		events := w.distinct(shard, w.readUntil(shard, int64(want)))
		if len(events) != want {
			w.t.Errorf("shard %d: %d events, want %d", shard, len(events), want)
		}
		for i := range events {
			e := &events[i]
			if e.N != len(got[e.Order]) {
				w.t.Errorf("order %s: event %d comes behind %v", e.Order, e.N, got[e.Order])
			}
			got[e.Order] = append(got[e.Order], e.Type)
			w.check(shard, e)
		}
	}
	if diff := cmp.Diff(w.want, got); diff != "" {
		w.t.Errorf("what happened (-), what the feed says (+):\n%s", diff)
	}
}

// check holds one event to its order.
func (w *world) check(shard int, e *order.Event) {
	w.t.Helper()
	status := map[string]order.Status{"recorded": order.AwaitingPayment, "duplicate": order.Rejected, "cancelled": order.Cancelled}[e.Type]
	reason := order.ReasonNone
	if types := w.want[e.Order]; types[len(types)-1] == "duplicate" {
		status, reason = order.Rejected, order.ReasonDuplicate
	}
	if e.Shard != shard || w.OrderShard(e.Order) != shard || e.User != w.user[e.Order] || e.Shop != 9 || e.At < w.start || e.Status != status ||
		e.Reason != reason || e.Actor == "" || string(e.Details) != string(order.MaskDetails(w.details)) {
		w.t.Errorf("shard %d: %+v", shard, e)
	}
}

// readUntil reads a shard's feed until it has the event of a number.
func (w *world) readUntil(shard int, number int64) []order.Event {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		events := w.feed.Read(w.t, shard)
		if number == 0 || slices.ContainsFunc(events, func(e order.Event) bool { return e.Number == number }) {
			return events
		}
		if time.Now().After(end) {
			w.t.Fatalf("shard %d: event %d has not come within a minute; %d events have", shard, number, len(events))
		}
	}
}

// distinct leaves repeats out as a reader would: it skips numbers that are not above the highest so far. Those that are
// above follow one another, and repeats say the same.
func (w *world) distinct(shard int, events []order.Event) (kept []order.Event) {
	w.t.Helper()
	for i := range events {
		switch e := &events[i]; {
		case e.Number == int64(len(kept))+1:
			kept = append(kept, *e)
		case e.Number > int64(len(kept)) || e.Number < 1:
			w.t.Fatalf("shard %d: number %d behind %d", shard, e.Number, len(kept))
		case !cmp.Equal(kept[e.Number-1], *e):
			w.t.Errorf("shard %d: number %d was\n%+v and is\n%+v", shard, e.Number, kept[e.Number-1], *e)
		}
	}
	return kept
}
