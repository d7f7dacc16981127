package store

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

func TestCancel(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := newDesk(t, dialect, [2]int64{100, 5})
		first, o := d.order(1, "a", 0, 1), d.order(1, "b", 0, 3)
		d.place(first, o)
		if got, changed, err := d.Cancel(ctx, o.ID, 2); got != nil || changed || err != nil {
			t.Errorf("by another user: %v %v %v", got, changed, err)
		}
		if got, changed, err := d.Cancel(ctx, d.order(1, "", 0, 1).ID, 1); got != nil || changed || err != nil {
			t.Errorf("not stored: %v %v %v", got, changed, err)
		}
		for i := range 3 {
			got, changed, err := d.Cancel(ctx, o.ID, 1)
			noError(t, err)
			if changed != (i == 0) || got.Status != order.Cancelled || got.Expires != 0 || got.Updated == 0 {
				t.Errorf("time %d: changed %v, %+v", i, changed, got)
			}
			d.expect(d.offers[0], []int64{96, 99, 99}[i], map[order.UserID]int64{1: []int64{4, 1, 1}[i]})
			d.giveBackAll()
		}
		if diff := cmp.Diff([]string{"1 cancelled by user"}, d.events(o.ID)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"1 cancelled by user"}, d.cancelledEvents(first)); diff != "" {
			t.Errorf("the order that carries the flush's event: %s", diff)
		}
		// It holds its key even so: a repeat finds the cancelled order.
		repeat := d.order(1, "b", 0, 3)
		d.place(repeat)
		if got := d.read(repeat.ID); got.DuplicateOf != o.ID {
			t.Errorf("a repeat of the cancelled order is %+v", got)
		}
	})
}

func (d *desk) cancelledEvents(r *order.Record) []string {
	_, changed, err := d.Cancel(context.Background(), r.ID, r.User)
	if err != nil || !changed {
		d.t.Errorf("cancel: changed %v, %v", changed, err)
	}
	return d.events(r.ID)
}

// expireAll expires what is due on every shard, in pieces.
func (d *desk) expireAll(limit int) (expired int) {
	d.t.Helper()
	for shard := range d.Shards() {
		for {
			n, err := d.ExpireDue(context.Background(), shard, limit)
			noError(d.t, err)
			if expired += n; n < limit {
				break
			}
		}
	}
	return expired
}

func TestExpire(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{1000, 5})
		var soon []*order.Record
		for i := range 25 {
			soon = append(soon, d.order(order.UserID(i), "a", 0, 2))
		}
		later, cancelled := d.order(100, "", 0, 1), d.order(101, "", 0, 1)
		d.record(0, d.claimed(soon...)...)
		d.place(later, cancelled)
		d.cancelledEvents(cancelled)
		if n := d.expireAll(4); n != len(soon) {
			t.Errorf("%d orders expired, want %d", n, len(soon))
		}
		for _, r := range soon {
			if o := d.read(r.ID); o.Status != order.Expired || o.Expires != 0 {
				t.Errorf("an order is %+v", o)
			}
			if diff := cmp.Diff([]string{"1 expired by expiry"}, d.events(r.ID)); diff != "" {
				t.Error(diff)
			}
		}
		if o := d.read(later.ID); o.Status != order.AwaitingPayment {
			t.Errorf("an order that has time is %s", o.Status)
		}
		if n := d.expireAll(4); n != 0 {
			t.Errorf("%d orders expired again", n)
		}
		d.giveBackAll()
		d.expect(d.offers[0], 999, map[order.UserID]int64{100: 1})
	})
}

// TestCancelRacesExpire lets buyers cancel while their orders expire: each order's units come back exactly once.
func TestCancelRacesExpire(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{1000, 5})
		var records []*order.Record
		for i := range 60 {
			records = append(records, d.order(order.UserID(i), "", 0, 2))
		}
		d.record(0, d.claimed(records...)...)
		var changes [4]int
		race(4, func(i int) {
			if i < 2 {
				changes[i] = d.expireAll(7)
				return
			}
			for _, r := range records {
				o, changed, err := d.Cancel(context.Background(), r.ID, r.User)
				if err != nil || o == nil {
					t.Errorf("cancel: %v %v", o, err)
				} else if changed {
					changes[i]++
				}
			}
		})
		changes[0] += d.expireAll(100)
		if n := sum(changes[:]); n != len(records) {
			t.Errorf("%v changes of %d orders", changes, len(records))
		}
		if n := len(d.due()); n != len(records) {
			t.Errorf("%d give-backs are due, want %d", n, len(records))
		}
		race(2, func(int) { d.giveBackAll() }) // two movers
		d.expect(d.offers[0], 1000, map[order.UserID]int64{})
	})
}

// BenchmarkExpire sweeps 20,000 orders that expire in the same second.
func BenchmarkExpire(b *testing.B) {
	const n = 20_000
	for range b.N {
		b.StopTimer()
		s := openBench(b, SQLite)
		for from := 0; from < n; from += 2000 {
			if _, err := s.Record(context.Background(), 0, benchRows(2000), RecordOptions{Kind: order.Flash}); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		for left := n; left > 0; {
			done, err := s.ExpireDue(context.Background(), 0, 1000)
			if err != nil || done == 0 {
				b.Fatal(left, err)
			}
			left -= done
		}
		b.StopTimer()
		if per := b.Elapsed() / time.Duration(b.N); per > 5*time.Second {
			b.Errorf("20,000 orders took %v to expire", per)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
