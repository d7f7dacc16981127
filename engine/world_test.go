package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/sqlitequeue"
	"sluice/engine/stock"
	"sluice/engine/stock/memstock"
	"sluice/persist"
	"sluice/persist/store"
)

// world is a whole order path on embedded drivers, with a place to plant faults between the engine and each seam.
type world struct {
	t       *testing.T
	dir     string
	store   *store.Store
	mem     *memstock.Stock
	stock   *faultyStock
	queue   *faultyQueue
	persist *persist.Persist
	engine  *Engine
	ids     *order.IDs
	told    *lockedBuffer // what the engine logged
}

const deadline = 2 * time.Second // D in these tests: enough for a busy machine

// newWorld starts everything on an empty directory, with one partition of each kind. wrap may put something in front of
// the queue.
func newWorld(t *testing.T, wrap ...func(queue.Queue) queue.Queue) *world {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	ps := order.Partitions{Normal: 1, Flash: 1}
	s, err := store.Open(ctx, store.Options{Dialect: store.SQLite, Partitions: ps, Deadline: deadline,
		Shards: []string{filepath.Join(dir, "shard-0.db"), filepath.Join(dir, "shard-1.db")}})
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	q, err := sqlitequeue.Open(ctx, sqlitequeue.Options{Path: filepath.Join(dir, "queue.db"), Partitions: ps})
	check(t, err)
	t.Cleanup(func() { _ = q.Close() })
	var front queue.Queue = q
	for _, f := range wrap {
		front = f(front)
	}
	w := &world{t: t, dir: dir, store: s, queue: &faultyQueue{Queue: front}, ids: order.NewIDs(nil), told: new(lockedBuffer)}
	now := order.MilliOf(time.Now())
	w.ids.Lease(1, now-1000, now+3_600_000)
	w.persist = persist.New(persist.DefaultOptions(), w.queue, s, quiet())
	check(t, w.persist.Start(ctx))
	t.Cleanup(func() { _ = w.persist.Close(context.Background()) })
	w.mem = memstock.New(memstock.Options{Partitions: ps})
	w.stock = &faultyStock{Stock: w.mem}
	w.start(true)
	return w
}

// start starts an engine. exclusive is that of a process start; false makes every loss wait D.
func (w *world) start(exclusive bool, change ...func(*Options)) {
	w.t.Helper()
	o := DefaultOptions()
	o.Partitions, o.Deadline, o.Exclusive = w.store.Partitions(), deadline, exclusive
	o.Tuning.RelayAfter = time.Second
	for _, f := range change {
		f(&o)
	}
	e := New(o, w.stock, w.queue, w.store, w.ids, slog.New(slog.NewTextHandler(w.told, nil)))
	check(w.t, e.Start(w.t.Context()))
	w.t.Cleanup(func() { _ = e.Close(context.Background()) })
	w.engine = e
	w.awaitOpen()
}

func (w *world) awaitOpen() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	check(w.t, w.engine.AwaitReady(ctx))
}

// offer puts a flash offer on sale and waits until the engine can sell it.
func (w *world) offer(total int64, limit uint32) *Offer {
	w.t.Helper()
	made, err := w.store.CreateOffers(w.t.Context(), []order.Offer{{Shop: 1, SKU: "sku", Title: "A thing", Kind: order.Flash,
		UnitPrice: 990, Currency: "CNY", Total: total, Limit: limit}})
	check(w.t, err)
	w.await("the offer", func() bool {
		o := w.engine.Offer(made[0].ID)
		s := w.engine.partitions[w.flash()].session.Load()
		return o != nil && s != nil && s.applied.Load() >= o.Created
	})
	return w.engine.Offer(made[0].ID)
}

// flash is the one partition of flash offers.
func (w *world) flash() order.Partition { return w.store.Partitions().Each(order.Flash)[0] }

func (w *world) part() *partition { return w.engine.partitions[w.flash()] }

// place buys one unit and returns a copy of the ticket as it was answered.
func (w *world) place(o *Offer, user order.UserID, key string) Ticket {
	t := NewTicket()
	defer t.Free()
	t.User, t.Key, t.Fingerprint = user, key, 7
	t.Lines = append(t.Lines, order.Line{Offer: o.ID, Quantity: 1})
	w.engine.Place(context.Background(), t)
	answered := *t
	answered.Lines, answered.Record.Items = nil, nil
	return answered
}

// placeSurely does what a client does: it tries again, with the same key, while the answer is "not ready" or "unknown".
func (w *world) placeSurely(o *Offer, user order.UserID, key string) (got Ticket) {
	w.t.Helper()
	w.await("an answer", func() bool {
		got = w.place(o, user, key)
		return got.Answer.Verdict != NotReady && got.Answer.Verdict != Unknown
	})
	return got
}

// placeLater is place in the background.
func (w *world) placeLater(o *Offer, user order.UserID, key string) <-chan Ticket {
	c := make(chan Ticket, 1)
	go func() { c <- w.place(o, user, key) }()
	return c
}

func (w *world) wantVerdict(got Ticket, want Verdict) {
	w.t.Helper()
	if got.Answer.Verdict != want {
		w.t.Fatalf("verdict %s (code %s), want %s", got.Answer.Verdict, got.Answer.Code, want)
	}
}

// stored waits until the order is stored and returns it.
func (w *world) stored(id order.ID) *order.Order {
	w.t.Helper()
	var o *order.Order
	w.await("order "+id.String(), func() bool {
		var err error
		o, err = w.store.Order(context.Background(), id)
		check(w.t, err)
		return o != nil
	})
	return o
}

// await polls a condition for up to 20 seconds.
func (w *world) await(what string, done func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// agree waits until fast stock and the home shard agree, with the given number of units sold.
func (w *world) agree(o *Offer, sold int64) {
	w.t.Helper()
	var last string
	defer func() {
		if w.t.Failed() {
			w.t.Log(last)
		}
	}()
	w.await(fmt.Sprintf("agreement on %d sold", sold), func() bool {
		s := w.part().session.Load()
		if s == nil {
			last = "not open"
			return false
		}
		count, err := w.store.Count(context.Background(), w.flash(), s.epoch)
		if err != nil {
			last = err.Error()
			return false
		}
		snap, err := w.mem.Snapshot(context.Background(), w.flash(), s.epoch)
		if err != nil {
			last = err.Error()
			return false
		}
		n := differences(count, snap)
		offers, err := w.store.OffersByID(context.Background(), w.flash(), []order.OfferID{o.ID})
		check(w.t, err)
		last = fmt.Sprintf("%d differences, %d sold, %d in the outbox", n, offers[0].Sold, snap.Batches)
		return n == 0 && offers[0].Sold == sold && snap.Batches == 0
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// faultyStock lets a test come between a call and its effect.
type faultyStock struct {
	stock.Stock
	mu      sync.Mutex
	reserve func(call *stock.ReserveCall) (*stock.Reserved, error) // replaces Reserve
	shut    func()                                                 // runs after a Shut
	read    func(what string, p order.Partition) error             // before a read: an error is returned instead
}

func (f *faultyStock) onRead(planted func(what string, p order.Partition) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read = planted
}

// reading runs what is planted before a read.
func (f *faultyStock) reading(what string, p order.Partition) error {
	f.mu.Lock()
	planted := f.read
	f.mu.Unlock()
	if planted == nil {
		return nil
	}
	return planted(what, p)
}

func (f *faultyStock) State(ctx context.Context, p order.Partition) (stock.State, error) {
	if err := f.reading("state", p); err != nil {
		return stock.State{}, err
	}
	return f.Stock.State(ctx, p)
}

func (f *faultyStock) BatchIDs(ctx context.Context, p order.Partition, e order.Epoch, gate stock.Gate) ([]order.BatchID, error) {
	if err := f.reading("batches", p); err != nil {
		return nil, err
	}
	return f.Stock.BatchIDs(ctx, p, e, gate)
}

func (f *faultyStock) Reserve(ctx context.Context, call *stock.ReserveCall) (*stock.Reserved, error) {
	f.mu.Lock()
	planted := f.reserve
	f.mu.Unlock()
	if planted != nil {
		return planted(call)
	}
	return f.Stock.Reserve(ctx, call)
}

func (f *faultyStock) Shut(ctx context.Context, p order.Partition, e order.Epoch) (bool, bool, error) {
	intact, ok, err := f.Stock.Shut(ctx, p, e)
	f.mu.Lock()
	planted := f.shut
	f.mu.Unlock()
	if planted != nil {
		planted()
	}
	return intact, ok, err
}

func (f *faultyStock) onReserve(planted func(call *stock.ReserveCall) (*stock.Reserved, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reserve = planted
}

func (f *faultyStock) onShut(planted func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = planted
}

// faultyQueue lets a test fail or hold the batches of a publisher. Barriers pass, unless barrier is planted.
type faultyQueue struct {
	queue.Queue
	mu      sync.Mutex
	publish func(m *order.Message) error // before the publish; an error is returned instead
	barrier func() error                 // the same, of a barrier
	seen    []*order.Message             // every message that Publish was given and that went through
}

var errPlanted = errors.New("planted")

func (f *faultyQueue) Publish(ctx context.Context, p order.Partition, message []byte) error {
	m, err := order.DecodeMessage(append([]byte(nil), message...))
	if err != nil {
		return err
	}
	f.mu.Lock()
	planted, barrier := f.publish, f.barrier
	f.mu.Unlock()
	if barrier != nil && m.Kind == order.BarrierMessage {
		if err := barrier(); err != nil {
			return err
		}
	}
	if planted != nil && m.Kind == order.BatchMessage {
		if err := planted(m); err != nil {
			return err
		}
	}
	err = f.Queue.Publish(ctx, p, message)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.seen = append(f.seen, m)
	}
	return err
}

func (f *faultyQueue) onPublish(planted func(m *order.Message) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publish = planted
}

func (f *faultyQueue) onBarrier(planted func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.barrier = planted
}

func (f *faultyQueue) published() []*order.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*order.Message(nil), f.seen...)
}

// loseNow loses all of fast stock and makes the keeper see it at once.
func (w *world) loseNow() {
	s := w.part().session.Load()
	w.mem.Lose(w.flash(), memstock.All)
	w.part().shut(s)
}

func storeChange(total *int64) store.OfferChange { return store.OfferChange{Total: total} }
func storeTitle(title string) store.OfferChange  { return store.OfferChange{Title: &title} }

// lockedBuffer is a bytes.Buffer that several goroutines may write to.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
