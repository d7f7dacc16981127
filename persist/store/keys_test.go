package store

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"sluice/engine/order"
)

// keyDesk is a desk on one SQLite file that can be closed and opened again.
type keyDesk struct {
	*desk
	options Options
}

func newKeyDesk(t *testing.T) *keyDesk {
	o := testOptions(t, SQLite, 1)
	x, ids := newSaleOn(t, o, [2]int64{10_000, 0})
	return &keyDesk{&desk{sale: x, offers: ids, start: order.MilliOf(time.Now())}, o}
}

func (d *keyDesk) shard() *shard { return d.shards[0] }

func (d *keyDesk) reopen() {
	d.t.Helper()
	noError(d.t, d.Close())
	d.Store = openStore(d.t, d.options)
}

func (d *keyDesk) merge() {
	d.t.Helper()
	noError(d.t, d.mergeKeys(context.Background(), d.shard()))
}

func (d *keyDesk) exec(query string, args ...any) {
	d.t.Helper()
	noError(d.t, d.update(context.Background(), 0, order.Flash, func(t *tx) error {
		_, err := t.exec(query, args...)
		return err
	}))
}

// count is a number that a query finds in the file.
func (d *keyDesk) count(query string) (n int) {
	d.t.Helper()
	noError(d.t, d.shard().read.QueryRow(query).Scan(&n))
	return n
}

// filled waits until the filter is.
func (d *keyDesk) filled() {
	d.t.Helper()
	for range 1000 {
		d.shard().keys.mu.RLock()
		complete := d.shard().keys.complete
		d.shard().keys.mu.RUnlock()
		if complete {
			return
		}
		<-time.After(time.Millisecond)
	}
	d.t.Fatal("the filter is not filled")
}

func (d *keyDesk) expect(what string, got []*order.Order, err error, want ...order.ID) {
	d.t.Helper()
	noError(d.t, err)
	if diff := cmp.Diff(append([]order.ID{}, want...), idsOf(got)); diff != "" {
		d.t.Errorf("%s: %s", what, diff)
	}
}

// TestKeysAreFoundWhereverTheyAre brings the entries of some orders to every place where they can be. From there a user's
// orders and the holders of keys must be found, and second orders of the keys be known.
func TestKeysAreFoundWhereverTheyAre(t *testing.T) {
	places := map[string]func(d *keyDesk){
		"in memory": func(*keyDesk) {},
		"being merged": func(d *keyDesk) {
			_, err := d.beginMerge(context.Background(), d.shard())
			noError(d.t, err)
		},
		"merged": func(d *keyDesk) { d.merge() },
		"merged, and the filter not filled": func(d *keyDesk) {
			d.merge()
			x := d.shard().keys
			x.mu.Lock()
			defer x.mu.Unlock()
			x.merged.ClearAll()
			x.complete = false
		},
		"in runs, after a start": func(d *keyDesk) { d.reopen() },
		"merged, after a start": func(d *keyDesk) {
			d.merge()
			d.reopen()
			d.filled()
		},
		"merged in part, after a crash": func(d *keyDesk) {
			d.exec("INSERT INTO order_key (user_id, key_hash, order_id) SELECT user_id, key_hash, order_id FROM orders WHERE user_id = 1 AND key_hash IS NOT NULL")
			d.reopen()
		},
		"merged again after that": func(d *keyDesk) {
			d.exec("INSERT INTO order_key (user_id, key_hash, order_id) SELECT user_id, key_hash, order_id FROM orders WHERE user_id = 1 AND key_hash IS NOT NULL")
			d.reopen()
			d.filled()
			d.merge()
		},
	}
	for name, bring := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			d := newKeyDesk(t)
			d.filled()
			a, b, x := d.order(1, "a", 0, 1), d.order(1, "", 0, 1), d.order(2, "a", 0, 1)
			d.place(a, b)
			d.place(x)
			bring(d)
			got, err := d.List(ctx, 1, ListFilter{Limit: 10})
			d.expect("list", got, err, b.ID, a.ID)
			got, err = d.OrdersByKey(ctx, 2, "a")
			d.expect("by key", got, err, x.ID)
			got, err = d.OrdersOfKeys(ctx, 0, []KeyRef{{2, x.KeyHash()}, {1, a.KeyHash()}, {2, 1}, {1, 0}})
			d.expect("of keys", got, err, x.ID, a.ID, 0, 0)

			again, fresh := d.order(1, "a", 0, 1), d.order(2, "b", 0, 1)
			out := d.record(time.Hour, d.claimed(again, fresh)...)
			if o := d.read(again.ID); out.Duplicates != 1 || o.Status != order.Rejected || o.DuplicateOf != a.ID {
				t.Errorf("%d duplicates; the second order is %s, of %d", out.Duplicates, o.Status, o.DuplicateOf)
			}
			if o := d.read(fresh.ID); o.Status != order.AwaitingPayment {
				t.Errorf("an order with a key of its own is %s", o.Status)
			}
		})
	}
}

// TestKeyHints gives the index entries that are not true.
func TestKeyHints(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := newKeyDesk(t)
	d.filled()
	rolledBack, a := d.order(1, "a", 0, 1), d.order(1, "a", 0, 1)
	d.shard().keys.add(keyEntry{KeyRef{1, rolledBack.KeyHash()}, rolledBack.ID})
	d.place(a)
	got, err := d.List(ctx, 1, ListFilter{Limit: 10})
	d.expect("list", got, err, a.ID)
	got, err = d.OrdersOfKeys(ctx, 0, []KeyRef{{1, a.KeyHash()}})
	d.expect("of keys", got, err, a.ID)
	d.merge()
	got, err = d.List(ctx, 1, ListFilter{Limit: 10})
	d.expect("list after a merge", got, err, a.ID)

	b := d.order(1, "b", 0, 1)
	d.shard().keys.filter([]KeyRef{{1, b.KeyHash()}})
	if !d.shard().keys.mayHold(1, b.KeyHash()) {
		t.Error("the filter lost a key")
	}
	d.place(b)
	if o := d.read(b.ID); o.Status != order.AwaitingPayment {
		t.Errorf("an order whose key the filter takes for known is %s", o.Status)
	}
}

// TestMergeGoesOn has a merge fail and orders come in meanwhile.
func TestMergeGoesOn(t *testing.T) {
	t.Parallel()
	d := newKeyDesk(t)
	d.filled()
	var want []order.ID
	place := func(key string) {
		r := d.order(1, key, 0, 1)
		d.place(r)
		want = append([]order.ID{r.ID}, want...)
	}
	place("a")
	d.exec("ALTER TABLE order_key RENAME TO gone")
	if err := d.mergeKeys(context.Background(), d.shard()); err == nil {
		t.Fatal("a merge into no table did not fail")
	}
	d.exec("ALTER TABLE gone RENAME TO order_key")
	place("b")
	d.merge() // what failed; b's run stays
	if n := d.count("SELECT count(*) FROM order_key_run"); n != 1 {
		t.Errorf("%d runs after the first merge", n)
	}
	place("c")
	d.merge()
	runs, keys := d.count("SELECT count(*) FROM order_key_run"), d.count("SELECT count(*) FROM order_key")
	if runs != 0 || keys != 3 {
		t.Errorf("%d runs and %d keys after the second merge", runs, keys)
	}
	got, err := d.List(context.Background(), 1, ListFilter{Limit: 10})
	d.expect("list", got, err, want...)
}

// merged waits until no run is left and expects so many entries.
func (d *keyDesk) merged(want int) {
	d.t.Helper()
	for start := time.Now(); d.count("SELECT count(*) FROM order_key_run") > 0; <-time.After(10 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			d.t.Fatal("no merge")
		}
	}
	if n := d.count("SELECT count(*) FROM order_key"); n != want {
		d.t.Errorf("%d keys merged, want %d", n, want)
	}
}

// orders are orders of three users, each with a key of its own.
func (d *keyDesk) orders(n int) (records []*order.Record) {
	for i := range n {
		records = append(records, d.order(order.UserID(i%3+1), fmt.Sprint(d.given), 0, 1))
	}
	return records
}

// TestMergeIsDue records runs until a merge comes by itself.
func TestMergeIsDue(t *testing.T) {
	t.Parallel()
	d := newKeyDesk(t)
	for _, row := range d.claimed(d.orders(mergeRuns)...) {
		d.record(time.Hour, row)
	}
	d.merged(mergeRuns)
}

// TestMergeAtRest records enough in a few runs and then nothing.
func TestMergeAtRest(t *testing.T) {
	t.Parallel()
	d := newKeyDesk(t)
	for range 10 {
		d.place(d.orders(mergeAtRest / 10)...)
	}
	d.merged(mergeAtRest)
}

// TestKeysOfAnOlderFile opens a file that still has the index of the first schema.
func TestKeysOfAnOlderFile(t *testing.T) {
	t.Parallel()
	d := newKeyDesk(t)
	a, b := d.order(1, "a", 0, 1), d.order(1, "", 0, 1)
	d.place(a, b)
	noError(t, d.Close())
	db, err := sql.Open("sqlite", filepath.Clean(d.options.Shards[0]))
	noError(t, err)
	for _, query := range []string{
		"DROP INDEX order_event_by_feed", "ALTER TABLE order_event DROP COLUMN feed_n",
		"DROP TABLE order_key", "DROP TABLE order_key_run",
		"CREATE UNIQUE INDEX orders_by_user_key ON orders (user_id, key_hash)",
		"DELETE FROM " + goose.DefaultTablename + " WHERE version_id >= 2",
	} {
		_, err := db.Exec(query)
		noError(t, err)
	}
	noError(t, db.Close())
	d.Store = openStore(t, d.options)
	got, err := d.List(context.Background(), 1, ListFilter{Limit: 10})
	d.expect("list", got, err, b.ID, a.ID)
	if n := d.count("SELECT count(*) FROM sqlite_master WHERE name = 'orders_by_user_key'"); n != 0 {
		t.Error("the old index is still there")
	}
}
