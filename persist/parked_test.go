package persist

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

// parking is a Persist that does not run, so that a test can take its steps one by one.
type parking struct {
	*Persist
	t    *testing.T
	dir  string
	p    order.Partition
	home int
}

func newParking(t *testing.T) *parking {
	t.Helper()
	dir := t.TempDir()
	ps := order.Partitions{Normal: 1, Flash: 1}
	s, err := store.Open(t.Context(), store.Options{Dialect: store.SQLite, Partitions: ps, Deadline: time.Second,
		Shards: []string{filepath.Join(dir, "shard-0.db")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	k := &parking{Persist: New(DefaultOptions(), nil, s, slog.New(slog.DiscardHandler)), t: t, dir: dir, p: ps.Each(order.Flash)[0]}
	k.home = s.Home(k.p)
	return k
}

// row is an order of epoch e.
func (k *parking) row(e order.Epoch) store.Row {
	user := order.UserID(1)
	id := order.MakeID(order.Milli(e), 1, order.VirtualShard(user), 0)
	return store.Row{Record: &order.Record{ID: id, User: user, Shop: 1, Currency: "CNY", Group: "g", Items: []order.Item{{
		Line: order.Line{Offer: 1, Quantity: 1}, UnitPrice: 990, PriceVersion: 1, SKU: "sku"}}},
		Batch: order.BatchID(id), Epoch: e, Partition: k.p, Status: order.AwaitingPayment}
}

// A sweep that looks while orders are being parked does not see them and takes the home shard for empty. What says that
// something is parked there must come after the commit, or nobody sweeps it until the next restart.
func TestSweepWhileParking(t *testing.T) {
	t.Parallel()
	k := newParking(t)
	file, err := sql.Open("sqlite", filepath.Join(k.dir, "shard-0.db")+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := k.sweepHome(t.Context(), k.home); err != nil || k.parked[k.home].Load() {
		t.Fatalf("nothing is parked, and a sweep says: %v", err)
	}
	writing, err := file.BeginTx(t.Context(), nil) // until it ends, nothing is committed
	if err != nil {
		t.Fatal(err)
	}
	parked := make(chan error, 1)
	go func() { parked <- k.park(k.home, 0, []store.Row{k.row(1000)}, nil) }()
	// Long enough for a flag that is set before the commit.
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end) && !k.parked[k.home].Load(); {
		time.Sleep(time.Millisecond)
	}
	if err := errors.Join(k.sweepHome(t.Context(), k.home), writing.Rollback(), <-parked); err != nil {
		t.Fatal(err)
	}
	if !k.parked[k.home].Load() {
		t.Error("an order is parked, and no sweep will look for it")
	}
}

// `recorded` does not pass the epoch of an order that another process has parked: whether this one knows of it is not
// asked.
func TestRecordedAsksForParkedOrders(t *testing.T) {
	t.Parallel()
	k := newParking(t)
	const epoch = 1000
	if err := k.park(k.home, 0, []store.Row{k.row(epoch)}, nil); err != nil {
		t.Fatal(err)
	}
	k.parked[k.home].Store(false)
	settled := []store.Settled{{Partition: k.p, Recorded: epoch + 1, SettledAt: 1}}
	if err := k.settleAt(k.home, settled); err != nil {
		t.Fatal(err)
	}
	parts, _, err := k.store.Parts(context.Background(), k.home)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if part.Partition == k.p && part.Recorded != epoch {
			t.Errorf("recorded is %d, an order of epoch %d is parked", part.Recorded, epoch)
		}
	}
}

// What a process has parked that is gone by now is recorded by the others.
func TestSweepFindsWhatOthersParked(t *testing.T) {
	t.Parallel()
	k := newParking(t)
	gone := New(DefaultOptions(), nil, k.store, slog.New(slog.DiscardHandler))
	if err := k.sweepHome(t.Context(), k.home); err != nil {
		t.Fatal(err)
	}
	if err := gone.park(k.home, 0, []store.Row{k.row(1000)}, nil); err != nil {
		t.Fatal(err)
	}
	for n := range otherEvery {
		k.sweepOnce(t.Context(), k.home, n == 0)
	}
	if o, err := k.store.Order(t.Context(), k.row(1000).Record.ID); err != nil || o == nil {
		t.Fatalf("not recorded: %v", err)
	}
}

// A page of what is parked ends with the whole of its last order, and may be longer for it: what lies behind is swept too.
func TestSweepGoesOnBehindALongPage(t *testing.T) {
	t.Parallel()
	k := newParking(t)
	var rows []store.Row
	for e := range order.Epoch(sweepPage + 3) {
		rows = append(rows, k.row(1000+e))
	}
	again := rows[sweepPage-1] // claimed in another batch as well
	again.Batch++
	if err := k.park(k.home, 0, append(rows, again), nil); err != nil {
		t.Fatal(err)
	}
	if err := k.sweepHome(t.Context(), k.home); err != nil {
		t.Fatal(err)
	}
	left, err := k.store.Parked(t.Context(), k.home, 0, sweepPage)
	if err != nil || len(left) != 0 {
		t.Errorf("%d orders are parked still, %v", len(left), err)
	}
}

// What a newer program has parked stays parked, and holds up nothing else.
func TestSweepLeavesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	k := newParking(t)
	newer, own := k.row(1000), k.row(1001)
	bytes := order.AppendRecord(nil, newer.Record)
	bytes[3]++
	if err := k.park(k.home, 0, []store.Row{own}, nil); err != nil {
		t.Fatal(err)
	}
	if err := k.store.Park(t.Context(), k.home, []store.ParkedOrder{{Order: newer.Record.ID, Batch: newer.Batch, Partition: newer.Partition,
		Epoch: newer.Epoch, Status: newer.Status, Bytes: bytes}}); err != nil {
		t.Fatal(err)
	}
	if err := k.sweepHome(t.Context(), k.home); err != nil {
		t.Fatal(err)
	}
	if o, err := k.store.Order(t.Context(), own.Record.ID); err != nil || o == nil {
		t.Errorf("what it reads is not recorded: %v", err)
	}
	left, err := k.store.Parked(t.Context(), k.home, 0, 10)
	if err != nil || len(left) != 1 || left[0].Order != newer.Record.ID || left[0].Error != "" {
		t.Errorf("parked are %+v, %v", left, err)
	}
	if !k.parked[k.home].Load() {
		t.Error("it does not look again")
	}
}
