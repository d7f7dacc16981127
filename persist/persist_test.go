package persist_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/queuetest"
	"sluice/engine/queue/sqlitequeue"
	"sluice/persist"
	"sluice/persist/store"
)

// line is a store with two shards, a queue, and one open epoch of one flash partition, without an engine.
type line struct {
	t     *testing.T
	dir   string
	store *store.Store
	queue queue.Queue
	p     order.Partition
	epoch order.Epoch
	offer order.Offer
	n     int
	begun map[order.Partition]order.Epoch // on other partitions (at)
}

func newLine(t *testing.T) *line { return newLineOf(t, 1) }

// newLineOf is newLine with so many flash partitions; the line is that of the first.
func newLineOf(t *testing.T, flash int) *line {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	ps := order.Partitions{Normal: 1, Flash: flash}
	l := &line{t: t, dir: dir, begun: map[order.Partition]order.Epoch{}, p: ps.Each(order.Flash)[0]}
	var err error
	l.store, err = store.Open(ctx, store.Options{Dialect: store.SQLite, Partitions: ps, Deadline: time.Second,
		Shards: []string{filepath.Join(dir, "shard-0.db"), filepath.Join(dir, "shard-1.db")}})
	check(t, err)
	t.Cleanup(func() { _ = l.store.Close() })
	l.queue, err = sqlitequeue.Open(ctx, sqlitequeue.Options{Path: filepath.Join(dir, "queue.db"), Partitions: ps})
	check(t, err)
	t.Cleanup(func() { _ = l.queue.Close() })
	made, err := l.store.CreateOffers(ctx, []order.Offer{{Shop: 1, SKU: "sku", Title: "A thing", Kind: order.Flash,
		UnitPrice: 990, Currency: "CNY", Total: 10_000, Limit: 5}})
	check(t, err)
	l.offer = made[0]
	l.epoch = l.begin(0)
	l.barrier(l.epoch)
	return l
}

// begin begins the epoch after seen on the home shard.
func (l *line) begin(seen order.Epoch) order.Epoch {
	l.t.Helper()
	e, ok, err := l.store.BeginRebuild(l.t.Context(), l.p, seen, true)
	if err != nil || !ok {
		l.t.Fatal(ok, err)
	}
	return e
}

func (l *line) barrier(e order.Epoch) {
	l.publish(order.AppendBarrier(nil, l.p, e, order.Milli(e)+order.Milli(l.n)))
}

func (l *line) publish(message []byte) {
	l.t.Helper()
	for l.queue.Publish(l.t.Context(), l.p, message) != nil { // unknown: again, as an engine does
	}
}

// batch publishes one order of each of n new users and returns their ids.
func (l *line) batch(e order.Epoch, n int) []order.ID {
	l.t.Helper()
	var records []byte
	ids := make([]order.ID, n)
	for i := range ids {
		l.n++
		user := order.UserID(l.n)
		ids[i] = order.MakeID(order.Milli(l.epoch)+order.Milli(l.n), 1, order.VirtualShard(user), 0)
		records = order.AppendRecord(records, &order.Record{ID: ids[i], User: user, Shop: 1, Currency: "CNY",
			Key: fmt.Sprint("k", user), Group: l.offer.Group,
			Items: []order.Item{{Line: order.Line{Offer: l.offer.ID, Quantity: 1}, UnitPrice: 990, PriceVersion: 1, SKU: "sku"}}})
	}
	l.publish(order.AppendBatch(nil, l.p, e, order.BatchID(ids[0]), records))
	return ids
}

// start starts a Persist; the test's end, or stop, ends it.
func (l *line) start() (x *persist.Persist, stop func()) {
	l.t.Helper()
	x = persist.New(persist.DefaultOptions(), l.queue, l.store, slog.New(slog.DiscardHandler))
	check(l.t, x.Start(l.t.Context()))
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			check(l.t, x.Close(context.Background()))
		}
	}
	l.t.Cleanup(stop)
	return x, stop
}

func (l *line) await(what string, done func() bool) {
	l.t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("waited 30 s for %s", what)
		}
	}
}

func (l *line) stored(ids []order.ID) (n int) {
	l.t.Helper()
	for _, id := range ids {
		o, err := l.store.Order(context.Background(), id)
		check(l.t, err)
		if o != nil && o.Status == order.AwaitingPayment {
			n++
		}
	}
	return n
}

func (l *line) awaitStored(ids []order.ID) {
	l.t.Helper()
	l.await(fmt.Sprintf("%d orders", len(ids)), func() bool { return l.stored(ids) == len(ids) })
}

func (l *line) recorded() order.Epoch {
	l.t.Helper()
	parts, _, err := l.store.Parts(context.Background(), l.store.Home(l.p))
	check(l.t, err)
	for _, part := range parts {
		if part.Partition == l.p {
			return part.Recorded
		}
	}
	l.t.Fatal("no row")
	return 0
}

// A damaged message is buried and holds up nothing.
func TestDamagedMessageIsBuried(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	damaged := order.AppendBarrier(nil, l.p, l.epoch, 1)
	damaged[len(damaged)-1] ^= 1
	l.publish(damaged)
	foreign := order.AppendBarrier(nil, l.p-1, l.epoch+1, 1) // intact, but of another partition
	l.publish(foreign)
	ids := l.batch(l.epoch, 3)
	x, _ := l.start()
	l.awaitStored(ids)
	awaitBacklog(t, l.queue, l.p)
	if st := x.Stats(); st.Buried != 2 || st.Stopped != 0 || st.Stored != 3 {
		t.Errorf("%+v", st)
	}
}

// An intact message of a newer version stops its partition: nothing behind it is stored, nothing is thrown away.
func TestNewerVersionStopsItsPartition(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	before := l.batch(l.epoch, 2)
	newer := order.AppendBarrier(nil, l.p, l.epoch, 1)
	newer[0]++
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(newer[8:], crc32.Update(crc32.Checksum(newer[:8], table), table, newer[12:]))
	l.publish(newer)
	after := l.batch(l.epoch, 2)
	x, stop := l.start()
	l.awaitStored(before)
	l.await("the stop", func() bool { return x.Stats().Stopped == 1 })
	stop()
	if n := l.stored(after); n != 0 {
		t.Errorf("%d orders behind a message of a newer version are stored", n)
	}
	if b, err := l.queue.Backlog(t.Context(), l.p); err != nil || b.Messages < 2 {
		t.Errorf("backlog %+v, %v: the message and what is behind it must stay", b, err)
	}
}

// A batch of an epoch that the home shard has not begun says that the shard went back in time.
func TestBatchOfALaterEpochStopsItsPartition(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	ids := l.batch(l.epoch+1, 2)
	x, stop := l.start()
	l.await("the stop", func() bool { return x.Stats().Stopped == 1 })
	stop()
	if n := l.stored(ids); n != 0 {
		t.Errorf("%d orders are stored", n)
	}
}

// A partition that is stopped holds up no other of its home shard: what came together with the message that stopped it
// is handled at once, not with the next message.
func TestStoppedPartitionHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	l := newLineOf(t, 4)
	other := order.Partition(0)
	for _, p := range l.store.Partitions().Each(order.Flash) {
		if p != l.p && l.store.Home(p) == l.store.Home(l.p) {
			other = p
		}
	}
	epoch, ok, err := l.store.BeginRebuild(t.Context(), other, 0, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	check(t, l.queue.Publish(t.Context(), other, order.AppendBarrier(nil, other, epoch, order.Milli(epoch))))
	l.batch(l.epoch+1, 2) // ahead
	x, _ := l.start()
	l.await("the stop", func() bool { return x.Stats().Stopped == 1 })
	awaitBacklog(t, l.queue, other)
}

// While a user shard is down its orders are parked and everything else goes on; when it is back they are recorded.
// `recorded` does not pass the epoch of what is parked.
func TestParkedOrdersAreRecordedLater(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	x, _ := l.start()
	l.awaitStored(l.batch(l.epoch, 1))
	file, err := sql.Open("sqlite", filepath.Join(l.dir, "shard-1.db")+"?_pragma=busy_timeout(10000)")
	check(t, err)
	defer func() { check(t, file.Close()) }()
	_, err = file.Exec("ALTER TABLE orders RENAME TO orders_away")
	check(t, err)

	ids := l.batch(l.epoch, 40)
	l.await("parked orders", func() bool { return x.Stats().Parked > 0 })
	there := 0
	for _, id := range ids {
		if l.store.OrderShard(id) == 0 {
			there++
			l.awaitStored([]order.ID{id})
		}
	}
	if there == 0 || there == len(ids) {
		t.Fatalf("%d of %d orders on the healthy shard: the test shows nothing", there, len(ids))
	}
	later := l.begin(l.epoch)
	l.barrier(later)
	awaitBacklog(t, l.queue, l.p)
	if got := l.recorded(); got > l.epoch {
		t.Errorf("recorded is %d although orders of %d are parked", got, l.epoch)
	}
	_, err = file.Exec("ALTER TABLE orders_away RENAME TO orders")
	check(t, err)
	l.awaitStored(ids)
	l.await("an empty parking place", func() bool { any, err := l.store.AnyParked(t.Context()); return err == nil && !any })
	l.await("recorded to pass", func() bool { return l.recorded() == later })
	if st := x.Stats(); st.Unparked != int64(len(ids)-there) {
		t.Errorf("%d unparked, want %d", st.Unparked, len(ids)-there)
	}
}

// A queue that repeats, replays and loses answers changes nothing: every order once, every unit once.
func TestChaos(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.queue = queuetest.NewChaos(l.queue, queuetest.Stormy(42))
	x, stop := l.start()
	var ids []order.ID
	for b := range 60 {
		ids = append(ids, l.batch(l.epoch, 1+b%7)...)
		if b%20 == 19 {
			l.barrier(l.epoch)
		}
	}
	l.awaitStored(ids)
	stop()
	offers, err := l.store.OffersByID(t.Context(), l.p, []order.OfferID{l.offer.ID})
	check(t, err)
	if offers[0].Sold != int64(len(ids)) {
		t.Errorf("%d sold, %d orders", offers[0].Sold, len(ids))
	}
	if st := x.Stats(); st.Stored != int64(len(ids)) || st.Duplicates+st.Alarms+st.RejectedCut+st.RejectedGuard != 0 {
		t.Errorf("%+v", st)
	}
}
