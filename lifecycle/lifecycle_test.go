package lifecycle

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/engine/order"
	"sluice/persist/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop is a store with one flash offer and a lifecycle that runs.
type shop struct {
	*store.Store
	*Lifecycle
	t      *testing.T
	opts   store.Options
	offer  order.Offer
	p      order.Partition
	epoch  order.Epoch
	placed int
}

// onDialects runs a test on SQLite, and on MySQL when SLUICE_TEST_MYSQL names a server. In CI a missing server is a
// failure.
func onDialects(t *testing.T, f func(*shop)) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		f(newShop(t, store.SQLite, filepath.Join(dir, "shard-0.db"), filepath.Join(dir, "shard-1.db")))
	})
	t.Run("mysql", func(t *testing.T) {
		server := os.Getenv("SLUICE_TEST_MYSQL")
		switch {
		case server == "" && os.Getenv("SLUICE_CI") == "1":
			t.Fatal("SLUICE_TEST_MYSQL is not set, and in CI nothing is skipped")
		case server == "":
			t.Skip("SLUICE_TEST_MYSQL is not set")
		}
		f(newShop(t, store.MySQL, testDatabase(t, server), testDatabase(t, server)))
	})
}

func testDatabase(t *testing.T, server string) string {
	name := "sluice_test_" + strings.ToLower(rand.Text())
	db, err := sql.Open("mysql", server)
	noError(t, err)
	_, err = db.Exec("CREATE DATABASE " + name)
	noError(t, err)
	t.Cleanup(func() {
		_, err := db.Exec("DROP DATABASE " + name)
		noError(t, errors.Join(err, db.Close()))
	})
	return server + name
}

func newShop(t *testing.T, dialect store.Dialect, shards ...string) *shop {
	ctx := context.Background()
	x := &shop{t: t, opts: store.Options{Dialect: dialect, Shards: shards, Partitions: order.Partitions{Normal: 1, Flash: 3}, Deadline: time.Second}}
	var err error
	x.Store, err = store.Open(ctx, x.opts)
	noError(t, err)
	t.Cleanup(func() { noError(t, x.Store.Close()) })
	offers, err := x.CreateOffers(ctx, []order.Offer{{Shop: 1, Group: "g", SKU: "sku", Title: "offer", Kind: order.Flash, UnitPrice: 100,
		Currency: "CNY", Total: 100_000, Limit: 50}})
	noError(t, err)
	x.offer, x.p = offers[0], x.Partitions().Of(order.Flash, "g")
	var ok bool
	x.epoch, ok, err = x.BeginRebuild(ctx, x.p, 0, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	_, err = x.Claim(ctx, x.Home(x.p), []*order.Message{{Kind: order.BarrierMessage, Partition: x.p, Epoch: x.epoch}})
	noError(t, err)
	return x
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a lifecycle that runs until the test ends; the latest one is x's.
func (x *shop) start(o Options) {
	x.t.Helper()
	l := New(o, x.Store, slog.New(slog.DiscardHandler))
	noError(x.t, l.Start(context.Background()))
	x.t.Cleanup(func() { noError(x.t, l.Close(context.Background())) })
	x.Lifecycle = l
}

// place claims and records orders of n units, one per user.
func (x *shop) place(unpaid time.Duration, units uint32, key string, users ...order.UserID) []order.ID {
	x.t.Helper()
	m := &order.Message{Kind: order.BatchMessage, Partition: x.p, Epoch: x.epoch}
	for _, u := range users {
		x.placed++
		item := order.Item{Line: order.Line{Offer: x.offer.ID, Quantity: units}, UnitPrice: 100, PriceVersion: 1, SKU: "sku"}
		m.Records = append(m.Records, order.Record{ID: order.MakeID(order.MilliOf(time.Now())+order.Milli(x.placed), 0, order.VirtualShard(u), 0),
			User: u, Shop: 1, Currency: "CNY", Group: "g", Key: key, Items: []order.Item{item}})
	}
	m.Batch = order.BatchID(m.Records[0].ID)
	verdicts, err := x.Claim(context.Background(), x.Home(x.p), []*order.Message{m})
	noError(x.t, err)
	if len(verdicts[0].Rejects) > 0 {
		x.t.Fatal(verdicts)
	}
	ids := make([]order.ID, len(users))
	rows := make([][]store.Row, x.Shards())
	for i := range m.Records {
		r := &m.Records[i]
		ids[i] = r.ID
		rows[x.UserShard(r.User)] = append(rows[x.UserShard(r.User)],
			store.Row{Record: r, Batch: m.Batch, Epoch: m.Epoch, Partition: m.Partition, Status: order.AwaitingPayment})
	}
	for shard := range rows {
		_, err := x.Record(context.Background(), shard, rows[shard], store.RecordOptions{Kind: order.Flash, Unpaid: unpaid})
		noError(x.t, err)
	}
	return ids
}

// sold is the units sold and held by the count that a rebuild would make.
func (x *shop) sold() (sold, held int64) {
	x.t.Helper()
	c, err := x.Count(context.Background(), x.p, x.epoch)
	noError(x.t, err)
	for _, b := range c.Buyers {
		held += b.Units
	}
	return x.offer.Total - c.Offers[0].Left, held
}

// await waits until as many units are sold, and checks that buyers hold the same.
func (x *shop) await(units int64) {
	x.t.Helper()
	var sold, held int64
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if sold, held = x.sold(); sold == units && held == units {
			return
		}
	}
	x.t.Fatalf("%d units are sold and %d held, want %d", sold, held, units)
}

// awaitEvents waits until so many events are in the feeds.
func (x *shop) awaitEvents(want int64) {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); x.Lifecycle.Stats().EventsNumbered < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			x.t.Fatalf("%d events are in the feeds, want %d", x.Lifecycle.Stats().EventsNumbered, want)
		}
	}
}

func users(from, to order.UserID) (list []order.UserID) {
	for u := from; u <= to; u++ {
		list = append(list, u)
	}
	return list
}

func TestCancel(t *testing.T) {
	onDialects(t, func(x *shop) {
		ctx := context.Background()
		x.start(Options{Tuning: Tuning{GiveBackEvery: time.Minute, ExpireEvery: time.Minute}}) // only the kick moves anything
		ids := x.place(time.Hour, 2, "k", 1, 2, 3)
		repeat := x.place(time.Hour, 2, "k", 3)[0]
		expired := x.place(0, 1, "e", 4)[0]
		_, err := x.ExpireDue(ctx, x.OrderShard(expired), 10)
		noError(x.t, err)
		expect := func(u order.UserID, id order.ID, want CancelResult, status order.Status, cancelled order.ID) {
			x.t.Helper()
			o, got, err := x.Lifecycle.Cancel(ctx, u, id)
			noError(x.t, err)
			if o == nil {
				o = new(order.Order)
			}
			if got != want || o.Status != status || o.ID != cancelled {
				x.t.Errorf("order %d of user %d: result %d, order %d %s", id, u, got, o.ID, o.Status)
			}
		}
		expect(2, ids[0], NotFound, "", 0)
		expect(1, ids[0]+1<<23, NotFound, "", 0)
		expect(1, ids[0], Cancelled, order.Cancelled, ids[0])
		expect(1, ids[0], AlreadyCancelled, order.Cancelled, ids[0])
		expect(4, expired, NotCancellable, order.Expired, expired)
		expect(3, repeat, Cancelled, order.Cancelled, ids[2])
		expect(3, ids[2], AlreadyCancelled, order.Cancelled, ids[2])
		want := Stats{Cancelled: 2, AlreadyCancelled: 2, NotCancellable: 1, NotFound: 2}
		got := x.Lifecycle.Stats()
		got.GivenBack, got.EventsNumbered = 0, 0
		if got != want {
			x.t.Errorf("counted %+v, want %+v", got, want)
		}
		if x.OrderShard(ids[0]) != x.OrderShard(expired) || x.OrderShard(ids[2]) != x.OrderShard(expired) {
			x.t.Fatal("the test needs users of one shard")
		}
		x.await(2) // of user 2
	})
}

func TestExpiry(t *testing.T) {
	onDialects(t, func(x *shop) {
		x.place(0, 1, "soon", users(1, 50)...)
		x.place(time.Hour, 3, "later", 1)
		x.start(Options{})
		x.await(3)
		if got := x.Lifecycle.Stats(); got.Expired != 50 {
			x.t.Errorf("counted %+v", got)
		}
	})
}

// TestExpiryOfARush: twenty thousand orders that fall due at once come back by one look, beside one that stays.
func TestExpiryOfARush(t *testing.T) {
	onDialects(t, func(x *shop) {
		n := order.UserID(20_000)
		if testing.Short() {
			n = 2000
		}
		for from := order.UserID(1); from <= n; from += 500 {
			x.place(0, 1, "rush", users(from, from+499)...)
		}
		x.place(time.Hour, 1, "later", 1)
		x.start(Options{Tuning: Tuning{ExpireEvery: time.Minute, GiveBackEvery: time.Minute}})
		x.await(1)
		if got := x.Lifecycle.Stats(); got.Expired != int64(n) {
			x.t.Errorf("counted %+v", got)
		}
	})
}

// TestCloseStopsAndResumes closes a lifecycle while it gives back, and lets another one finish.
func TestCloseStopsAndResumes(t *testing.T) {
	onDialects(t, func(x *shop) {
		x.place(0, 1, "soon", users(1, 400)...)
		for range 10 {
			l := New(Options{Tuning: Tuning{ExpireEvery: time.Millisecond, GiveBackEvery: time.Millisecond}}, x.Store, slog.New(slog.DiscardHandler))
			noError(x.t, l.Start(context.Background()))
			noError(x.t, l.Close(context.Background()))
		}
		x.start(Options{})
		x.await(0)
	})
}

// TestCloseWaits closes a lifecycle whose writes wait for a file that somebody else holds.
func TestCloseWaits(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "shard-0.db")
	x := newShop(t, store.SQLite, path)
	db, err := sql.Open("sqlite", path)
	noError(t, err)
	defer db.Close()
	conn, err := db.Conn(ctx)
	noError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	noError(t, err)
	l := New(Options{}, x.Store, slog.New(slog.DiscardHandler))
	noError(t, l.Start(ctx))
	stacks := make([]byte, 1<<20)
	for !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "store.(*Store).runOnce") { // a write is under way
		time.Sleep(time.Millisecond)
	}
	hasty, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := l.Close(hasty); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closed while a write was under way: %v", err)
	}
	_, err = conn.ExecContext(ctx, "ROLLBACK")
	noError(t, err)
	noError(t, l.Close(ctx))
}

// TestTwoAtOnce lets two lifecycles do the same.
func TestTwoAtOnce(t *testing.T) {
	onDialects(t, func(x *shop) {
		x.start(Options{Tuning: Tuning{ExpireEvery: time.Millisecond, GiveBackEvery: time.Millisecond}})
		x.start(Options{Tuning: Tuning{ExpireEvery: time.Millisecond, GiveBackEvery: time.Millisecond}})
		for i := range order.UserID(5) {
			x.place(0, 1, "", users(i*100+1, i*100+100)...)
		}
		x.await(0)
		rows, err := x.StockLog(context.Background(), x.p, 0, 10_000)
		noError(x.t, err)
		if gives := len(rows) - 1; gives != 500 { // the first row is the offer's creation
			x.t.Errorf("%d rows give back, want 500", gives)
		}
	})
}

// TestOneBadGiveBackHoldsUpNothing makes one give-back impossible, as a row changed by hand would.
func TestOneBadGiveBackHoldsUpNothing(t *testing.T) {
	onDialects(t, func(x *shop) {
		x.place(0, 1, "", users(1, 40)...)
		db, err := sql.Open(string(x.opts.Dialect), x.opts.Shards[x.Home(x.p)])
		noError(x.t, err)
		defer db.Close()
		_, err = db.Exec(fmt.Sprintf("UPDATE buyer SET units = 0 WHERE offer_id = %d AND user_id = 17", x.offer.ID))
		noError(x.t, err)
		x.start(Options{})
		for end := time.Now().Add(20 * time.Second); x.Lifecycle.Stats().GivenBack < 39 && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		if sold, held := x.sold(); sold != 1 || held != 0 || x.Lifecycle.Stats().GiveBackFailures == 0 {
			x.t.Fatalf("%d sold, %d held, %+v", sold, held, x.Lifecycle.Stats())
		}
		due, err := x.GiveBacksDue(context.Background(), x.UserShard(17), 10)
		if err != nil || len(due) != 0 {
			x.t.Errorf("the bad one is not put off: %v %v", due, err)
		}
		_, err = db.Exec(fmt.Sprintf("UPDATE buyer SET units = 1 WHERE offer_id = %d AND user_id = 17", x.offer.ID))
		noError(x.t, err)
		x.await(0) // and once a person has mended it, it goes on by itself
	})
}

func TestOptions(t *testing.T) {
	var none Options
	noError(t, none.Validate())
	bad := Options{Tuning: Tuning{ExpireEvery: -1, CallTimeout: time.Hour}}
	err := bad.Validate()
	if err == nil || !strings.Contains(err.Error(), "expire_every") || !strings.Contains(err.Error(), "call_timeout") {
		t.Errorf("options out of bounds: %v", err)
	}
}
