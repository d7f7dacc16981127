package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/internal/lockfile"
)

// Two stores on one file would not see what the other one has not merged.
func TestOneStorePerFile(t *testing.T) {
	d := newKeyDesk(t)
	var held *lockfile.HeldError
	if s, err := Open(context.Background(), d.options); !errors.As(err, &held) {
		if err == nil {
			_ = s.Close()
		}
		t.Fatalf("a second store on the same file: %v", err)
	}
	d.reopen()
}

// Flushes that fail again and again leave nothing in memory.
func TestFailedRecordsLeaveNoEntries(t *testing.T) {
	d := newKeyDesk(t)
	d.filled()
	earlier := d.order(1, "earlier", 0, 1)
	d.place(earlier)
	before := d.shard().keys.waiting()
	rows := d.claimed(d.order(1, "k", 0, 1), d.order(1, "", 0, 1), d.order(2, "k", 0, 1))
	d.exec("ALTER TABLE order_event RENAME TO gone")
	for range 3 {
		if _, err := d.Record(context.Background(), 0, rows, RecordOptions{Kind: order.Flash, Unpaid: time.Hour}); err == nil {
			t.Fatal("recorded without events")
		}
	}
	if n := d.shard().keys.waiting(); n != before {
		t.Errorf("%d entries in memory, not %d", n, before)
	}
	d.exec("ALTER TABLE gone RENAME TO order_event")
	d.record(time.Hour, rows...)
	list, err := d.List(context.Background(), 1, ListFilter{Limit: 10})
	d.expect("the user's orders", list, err, rows[1].Record.ID, rows[0].Record.ID, earlier.ID)
}

// A merge that has deleted its runs without knowing it deletes none that came later.
func TestRunNumbersAreNotUsedAgain(t *testing.T) {
	d := newKeyDesk(t)
	d.filled()
	d.place(d.orders(3)...)
	_, err := d.beginMerge(context.Background(), d.shard())
	noError(t, err)
	d.exec("DELETE FROM order_key_run") // as the merge's last step does, whose answer was lost
	later := d.order(1, "later", 0, 1)
	d.place(later)
	d.merge()
	d.reopen()
	found, err := d.OrdersOfKeys(context.Background(), 0, []KeyRef{{1, later.KeyHash()}})
	d.expect("the later order", found, err, later.ID)
}

// A merge waits for no reader while it holds the turn: that would stop every writer.
func TestMergeNeedsNoReader(t *testing.T) {
	d := newKeyDesk(t)
	d.filled()
	d.place(d.orders(3)...)
	for range d.opts.Readers {
		c, err := d.shard().read.Conn(context.Background())
		noError(t, err)
		defer func() { _ = c.Close() }()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	noError(t, d.mergeKeys(ctx, d.shard()))
}

// keyCrowd records orders from several goroutines, with transactions that are rolled back and deadlines that pass, while
// merges go on all the time.
type keyCrowd struct {
	t *testing.T
	*Store
	options Options
	next    *atomic.Uint64

	mu       sync.Mutex
	recorded map[order.ID]order.UserID // what Record said is stored
}

const crowdUsers = 7

func (c *keyCrowd) row(r *rand.Rand) Row {
	key, user := "", order.UserID(1+r.IntN(crowdUsers))
	if r.IntN(4) > 0 {
		key = fmt.Sprint("k", r.IntN(2000))
	}
	start := order.MilliOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	o := &order.Record{ID: order.MakeID(start+order.Milli(c.next.Add(1)), 0, order.VirtualShard(user), 0), User: user, Shop: 7,
		Fingerprint: 1, Currency: "CNY", Key: key, Group: "g",
		Items: []order.Item{{Line: order.Line{Offer: 1, Quantity: 1}, UnitPrice: 1, PriceVersion: 1, SKU: "S"}}}
	return Row{Record: o, Batch: order.BatchID(o.ID), Epoch: 1, Partition: order.Partition(c.options.Partitions.Normal), Status: order.AwaitingPayment}
}

var errChanged = errors.New("changed my mind")

func (c *keyCrowd) flush(r *rand.Rand) {
	rows := make([]Row, 1+r.IntN(60))
	for i := range rows {
		rows[i] = c.row(r)
	}
	o := RecordOptions{Kind: order.Kinds[r.IntN(2)], Unpaid: time.Hour}
	if r.IntN(4) == 0 {
		err := c.update(context.Background(), 0, o.Kind, func(t *tx) error {
			return errors.Join((&recording{t: t, o: o}).run(sortedEntries(rows)), errChanged)
		})
		if !errors.Is(err, errChanged) {
			c.t.Error(err)
		}
		if r.IntN(2) == 0 {
			return
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(30))*time.Millisecond)
	defer cancel()
	if _, err := c.Record(ctx, 0, rows, o); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			c.t.Error(err)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range rows {
		c.recorded[row.Record.ID] = row.Record.User
	}
}

// image copies the file as a crash at this moment would leave it, and says what must be in it.
func (c *keyCrowd) image(path string) map[order.ID]order.UserID {
	sh := c.shards[0]
	noError(c.t, sh.turn.take(context.Background(), 0))
	defer sh.turn.give()
	c.mu.Lock()
	recorded := maps.Clone(c.recorded)
	c.mu.Unlock()
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(sh.path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		noError(c.t, err)
		noError(c.t, os.WriteFile(path+suffix, b, 0o600))
	}
	return recorded
}

// verifyKeys compares what the index finds in a store with its rows.
func verifyKeys(t *testing.T, what string, s *Store, recorded map[order.ID]order.UserID) {
	t.Helper()
	ctx := context.Background()
	stored := map[order.ID]order.UserID{}
	var refs []KeyRef
	var holders []order.ID
	const query = "SELECT order_id, user_id, key_hash, reason = 'duplicate' FROM orders"
	noError(t, s.query(ctx, 0, query, func(r *sql.Rows) error {
		var id, user int64
		var hash sql.NullInt64
		var duplicate bool
		err := r.Scan(&id, &user, &hash, &duplicate)
		if hash.Valid {
			refs, holders = append(refs, KeyRef{order.UserID(user), uint64(hash.Int64)}), append(holders, order.ID(id))
		}
		if !duplicate {
			stored[order.ID(id)] = order.UserID(user)
		} else {
			delete(recorded, order.ID(id))
		}
		return err
	}))
	for id, user := range recorded {
		if stored[id] != user {
			t.Errorf("%s: order %d was recorded and is gone", what, id)
		}
	}
	listed := 0
	for user := order.UserID(1); user <= crowdUsers; user++ {
		list, err := s.List(ctx, user, ListFilter{Limit: 1 << 20})
		noError(t, err)
		for i, o := range list {
			if stored[o.ID] != user || i > 0 && list[i-1].ID <= o.ID {
				t.Fatalf("%s: the list of user %d has order %d of user %d", what, user, o.ID, stored[o.ID])
			}
		}
		listed += len(list)
	}
	if listed != len(stored) {
		t.Errorf("%s: %d of %d orders are listed", what, listed, len(stored))
	}
	found, err := s.OrdersOfKeys(ctx, 0, refs)
	noError(t, err)
	for i, o := range found {
		if o == nil || o.ID != holders[i] || !s.shards[0].keys.mayHold(refs[i].User, refs[i].Key) {
			t.Fatalf("%s: the key of order %d finds %v", what, holders[i], o)
		}
	}
}

// However recording, rolling back, merging and crashing fall together, the index finds exactly what is stored.
func TestKeysSurviveTheCrowd(t *testing.T) {
	o := testOptions(t, SQLite, 1)
	next := new(atomic.Uint64)
	rounds := 2
	if testing.Short() {
		rounds = 1
	}
	recorded := map[order.ID]order.UserID{}
	for round := range rounds {
		c := &keyCrowd{t: t, Store: openStore(t, o), options: o, next: next, recorded: recorded}
		x := c.shards[0].keys
		x.mu.Lock()
		x.mergeEntries, x.mergeRuns = 200, 7
		x.mu.Unlock()
		stop := make(chan struct{})
		var crowd sync.WaitGroup
		for g := range 3 {
			crowd.Go(func() {
				for r := rand.New(rand.NewPCG(uint64(round), uint64(g))); ; c.flush(r) {
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for i := range 2 {
			<-time.After(300 * time.Millisecond)
			image := o
			image.Shards = []string{filepath.Join(t.TempDir(), "image.db")}
			want := c.image(image.Shards[0])
			s := openStore(t, image)
			verifyKeys(t, fmt.Sprintf("round %d, image %d", round, i), s, want)
			noError(t, s.Close())
		}
		close(stop)
		crowd.Wait()
		verifyKeys(t, fmt.Sprintf("round %d", round), c.Store, maps.Clone(recorded))
		noError(t, c.Close())
	}
	s := openStore(t, o)
	verifyKeys(t, "at the end", s, recorded)
	var merged, all int
	noError(t, s.shards[0].read.QueryRow("SELECT (SELECT count(*) FROM order_key), (SELECT count(*) FROM orders)").Scan(&merged, &all))
	if merged < all/2 {
		t.Errorf("%d of %d orders were merged: the test did not test merges", merged, all)
	}
}
