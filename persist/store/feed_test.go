package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

// numberAll numbers what has no number on any shard.
func (d *desk) numberAll() {
	d.t.Helper()
	for shard := range d.Shards() {
		for more := true; more; {
			var err error
			_, more, err = d.NumberEvents(context.Background(), shard)
			noError(d.t, err)
		}
	}
}

// feed reads the whole feed of a shard in pages.
func (d *desk) feed(shard, page int) (all []order.Event) {
	d.t.Helper()
	for after := int64(0); ; after = all[len(all)-1].Number {
		events, err := d.FeedEvents(context.Background(), shard, after, page)
		noError(d.t, err)
		if len(events) > page {
			d.t.Fatalf("%d events in a page of %d", len(events), page)
		}
		if all = append(all, events...); len(events) == 0 {
			return all
		}
	}
}

// held holds the feeds to what readers may rely on, and returns the types of each order's events.
func (d *desk) held() map[order.ID][]string {
	d.t.Helper()
	got := map[order.ID][]string{}
	for shard := range d.Shards() {
		for i, e := range d.feed(shard, 1000) {
			if e.Number != int64(i)+1 || e.Shard != shard || d.OrderShard(e.Order) != shard {
				d.t.Errorf("shard %d: event %d is number %d of shard %d, order %s", shard, i+1, e.Number, e.Shard, e.Order)
			}
			if e.N != len(got[e.Order]) {
				d.t.Errorf("order %s: event %d comes behind %v", e.Order, e.N, got[e.Order])
			}
			got[e.Order] = append(got[e.Order], e.Type)
		}
	}
	return got
}

func TestFeed(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := newDesk(t, dialect, [2]int64{10_000, 0})
		want := map[order.ID][]string{}
		place := func(n int) (placed []*order.Record) {
			for range n {
				r := d.order(order.UserID(d.given%50+1), fmt.Sprint(d.given), 0, 1)
				r.Details = []byte(`{"address":{"name":"Ann","phone":"5","region":"R","line":"L"}}`)
				placed, want[r.ID] = append(placed, r), []string{eventRecorded}
			}
			d.place(placed...)
			return placed
		}
		cancel := func(list []*order.Record) {
			for _, r := range list {
				_, changed, err := d.Cancel(ctx, r.ID, r.User)
				if noError(t, err); !changed {
					t.Fatalf("order %s was not cancelled", r.ID)
				}
				want[r.ID] = append(want[r.ID], "cancelled")
			}
		}
		first := place(120)
		cancel(first[:30])
		for shard := range d.Shards() {
			if events := d.feed(shard, 10); len(events) > 0 {
				t.Errorf("%d events without a number are in the feed", len(events))
			}
		}
		d.numberAll()
		second := d.order(first[60].User, first[60].Key, 0, 1) // of the same key
		second.Fingerprint = 2
		d.place(second)
		want[second.ID] = []string{eventRecorded, eventDuplicate}
		cancel(first[90:])
		cancel(place(20))
		d.numberAll()
		d.numberAll()
		if diff := cmp.Diff(want, d.held()); diff != "" {
			t.Errorf("what happened (-), the feed (+):\n%s", diff)
		}
		for shard := range d.Shards() {
			all := d.feed(shard, 1000)
			for _, page := range []int{1, 7, 1001} {
				if diff := cmp.Diff(all, d.feed(shard, page)); diff != "" {
					t.Errorf("in pages of %d:\n%s", page, diff)
				}
			}
			for i := range all {
				e := &all[i]
				o := d.read(e.Order)
				status := map[string]order.Status{eventRecorded: order.AwaitingPayment, eventDuplicate: order.Rejected, "cancelled": order.Cancelled}[e.Type]
				details, reason := `{"address":{"name":"***","phone":"***","region":"R","line":"***"}}`, order.ReasonNone
				if e.Order == second.ID {
					status, details, reason = order.Rejected, "", order.ReasonKeyReused
				}
				if e.Status != status || e.Reason != reason || e.User != o.User || e.Shop != o.Shop || string(e.Details) != details || e.At == 0 || e.Actor == "" {
					t.Errorf("%+v of %+v", e, o)
				}
			}
		}
	})
}

// Several processes number while others record and cancel.
func TestFeedNumberedAtOnce(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{10_000, 0})
		var rows [][]Row
		for n := range 24 {
			var records []*order.Record
			for range 25 {
				r := d.order(order.UserID(d.given+1), "", 0, 1)
				r.ID = order.MakeID(d.start+order.Milli(rand.IntN(2000)), uint8(n), r.ID.VirtualShard(), uint8(d.given))
				records = append(records, r)
			}
			rows = append(rows, d.claimed(records...))
		}
		var hands, numbering sync.WaitGroup
		over := make(chan struct{})
		for range 3 {
			numbering.Go(func() {
				for shard := 0; ; shard++ {
					if _, _, err := d.NumberEvents(context.Background(), shard%d.Shards()); err != nil {
						t.Error(err)
					}
					select {
					case <-over:
						return
					case <-time.After(time.Millisecond):
					}
				}
			})
		}
		for hand := range 4 {
			hands.Go(func() {
				for n := hand; n < len(rows); n += 4 {
					d.record(time.Hour, rows[n]...)
					for _, r := range rows[n] {
						if _, _, err := d.Cancel(context.Background(), r.Record.ID, r.Record.User); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		hands.Wait()
		close(over)
		numbering.Wait()
		d.numberAll()
		got := d.held()
		for id, types := range got {
			if !slices.Equal(types, []string{eventRecorded, "cancelled"}) {
				t.Errorf("order %s: %v", id, types)
			}
		}
		if len(got) != 24*25 {
			t.Errorf("%d orders are in the feed, want %d", len(got), 24*25)
		}
	})
}

// What is known to be published does not go back.
func TestFeedPublished(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{10, 0})
		for _, step := range [][2]int64{{0, 0}, {7, 7}, {3, 7}, {8, 8}} {
			noError(t, d.SetFeedPublished(context.Background(), 1, step[0]))
			if n, err := d.FeedPublished(context.Background(), 1); err != nil || n != step[1] {
				t.Errorf("after %d: %d, %v", step[0], n, err)
			}
		}
		if n, err := d.FeedPublished(context.Background(), 0); err != nil || n != 0 {
			t.Errorf("the other shard: %d, %v", n, err)
		}
	})
}

// An older program did not name the orders that it recorded: they come into the feed with what happens to them later.
func TestFeedOfAnOlderProgram(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{10_000, 0})
		old := []*order.Record{d.order(1, "", 0, 1), d.order(1, "", 0, 1)}
		d.place(old...)
		shard := d.OrderShard(old[0].ID)
		noError(t, d.update(context.Background(), shard, 0, func(tx *tx) error {
			_, err := tx.exec("UPDATE order_event SET data = ?", []byte(fmt.Sprintf(`{"count":2,"last":"%d"}`, old[1].ID)))
			return err
		}))
		d.numberAll()
		d.place(d.order(1, "", 0, 1))
		_, _, err := d.Cancel(context.Background(), old[0].ID, 1)
		noError(t, err)
		d.numberAll()
		var got []string
		for i, e := range d.feed(shard, 1) {
			if got = append(got, e.Type); e.Number != int64(i)+1 {
				t.Errorf("event %d has the number %d", i+1, e.Number)
			}
		}
		if diff := cmp.Diff([]string{"cancelled", "recorded"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// A start that ended between the change of the table and its version begins again.
func TestFeedMigratedTwice(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	s := openStore(t, o)
	noError(t, s.update(context.Background(), 0, 0, func(tx *tx) error {
		_, err := tx.exec("DELETE FROM goose_db_version WHERE version_id = 5")
		return err
	}))
	openStore(t, o)
}

// An event of new orders names every one of them, under the lowest, and fits its column.
func TestFlushEventsNameTheirOrders(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, flushIDsMax, flushIDsMax + 1, 3*flushIDsMax - 1} {
		for _, spread := range []uint64{1 << 23, 1 << 40, order.MaxID / uint64(n+1)} {
			var ids []order.ID
			for id, i := order.ID(0), 0; i < n; i++ {
				id += order.ID(1 + rand.Uint64N(spread))
				ids = append(ids, id)
			}
			want := slices.Clone(ids)
			rand.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			var got []order.ID
			rows := flushEvents(ids, 5)
			for ; len(rows) > 0; rows = rows[7:] {
				data := rows[5].([]byte)
				list, err := flushOrders(order.ID(rows[0].(int64)), data)
				if err != nil || len(data) >= 1<<16 || rows[1] != int64(0) {
					t.Fatalf("%d orders: %d bytes, %v", n, len(data), err)
				}
				got = append(got, list...)
			}
			if !slices.Equal(want, got) {
				t.Fatalf("%d orders: %d were read", n, len(got))
			}
		}
	}
	for _, bad := range []string{"", "{", `{"count":1,"ids":"!"}`, `{"count":2,"ids":"gA=="}`} {
		if ids, err := flushOrders(1, []byte(bad)); err == nil {
			t.Errorf("%s was read: %v", bad, ids)
		}
	}
}
