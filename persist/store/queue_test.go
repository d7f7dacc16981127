package store

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
)

// A queue that is not the deployment's is refused by a look, by a start, and when it has been opened.
func TestKeepQueue(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		o := testOptions(t, d, 2)
		with := func(identity string) Options {
			mine := o
			mine.Queue = &identity
			return mine
		}
		s := openStore(t, with(""))
		for _, first := range []bool{true, false} {
			if adopted, err := s.KeepQueue(ctx, "q:one"); adopted != first || err != nil {
				t.Errorf("adopted %v, %v; want %v", adopted, err, first)
			}
		}
		const other = "the queue of this deployment is q:one, and this one is q:two: accepted orders may lie"
		if _, err := s.KeepQueue(ctx, "q:two"); err == nil || !strings.HasPrefix(err.Error(), other) {
			t.Errorf("another queue: %v", err)
		}
		noError(t, s.Close())
		expectFound(t, with("q:one"), "0 ok: ", "1 ok: ")
		expectFound(t, o, "0 ok: ", "1 ok: ")
		for identity, want := range map[string]string{"q:two": other, "": "the queue of this deployment is q:one, and there is none here yet: accepted"} {
			expectFound(t, with(identity), "0 ok: ", "1 ok: ", "0 wrong: "+want)
			if opened, err := Open(ctx, with(identity)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("opened with queue %q: %v", identity, err)
				if err == nil {
					noError(t, opened.Close())
				}
			}
		}
		noError(t, openStore(t, with("q:one")).Close())
	})
}

// A queue that is lost takes with it orders that were claimed and not recorded: their units come back, and nobody
// else's do. As long as a process may run nothing is changed.
func TestAdoptQueue(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := newDesk(t, dialect, [2]int64{1000, 50}, [2]int64{1000, 0})
		_, err := d.KeepQueue(ctx, "q:lost")
		noError(t, err)
		live, back, due := d.order(1, "a", 0, 1, 1, 2), d.order(2, "b", 0, 4, 1, 8), d.order(3, "c", 0, 16, 1, 32)
		d.place(live, back, due)
		d.cancelledEvents(back)
		d.giveBackAll()
		d.cancelledEvents(due)
		parked, both := d.claimed(d.order(4, "d", 0, 5, 1, 64))[0], d.claimed(d.order(5, "e", 0, 3, 1, 128))[0]
		d.record(time.Hour, both)
		for _, r := range []Row{parked, both} { // both is stored too: its parked row counts no more
			noError(t, d.Park(ctx, d.Home(d.p), []ParkedOrder{{Order: r.Record.ID, Batch: r.Batch, Shard: d.UserShard(r.Record.User), Partition: d.p,
				Epoch: r.Epoch, Status: r.Status, Bytes: order.AppendRecord(nil, r.Record)}}))
		}
		d.claimed(d.order(1, "", 0, 10, 1, 100), d.order(6, "", 1, 200)) // and the queue with them is lost
		lease, err := d.LeaseNode(ctx, "host-1-x", time.Second)
		noError(t, err)
		var alive *AliveError
		if _, err := d.AdoptQueue(ctx, "q:new"); !errors.As(err, &alive) || alive.Owner != "host-1-x" || alive.Until != lease.Until {
			t.Errorf("adopted while a process runs: %v", err)
		}
		if q, unfinished, err := d.Queue(ctx); q != "q:lost" || unfinished || err != nil || d.part().Wanted == d.epoch {
			t.Errorf("queue %q, %v, part %+v", q, err, d.part())
		}
		d.expect(d.offers[0], 1000-1-16-5-3-10, map[order.UserID]int64{1: 11, 3: 16, 4: 5, 5: 3})
		// One that died on its way: nobody starts, with either queue, until it is run again.
		noError(t, d.update(ctx, 0, 0, func(t *tx) error { return t.keepTo(adopting + "q:new") }))
		if q, unfinished, err := d.Queue(ctx); q != "q:new" || !unfinished || err != nil {
			t.Errorf("queue %q, unfinished %v, %v", q, unfinished, err)
		}
		for _, queue := range []string{"q:lost", "q:new"} {
			if _, err := d.KeepQueue(ctx, queue); err == nil || !strings.Contains(err.Error(), "adopt` has begun") {
				t.Errorf("queue %s while one is adopted: %v", queue, err)
			}
		}
		var units int64
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			units, err = d.AdoptQueue(ctx, "q:new")
			if !errors.As(err, &alive) || time.Now().After(end) {
				break
			}
		}
		if units != 10+100+200 || err != nil {
			t.Errorf("%d units came back, %v", units, err)
		}
		d.expect(d.offers[0], 1000-1-16-5-3, map[order.UserID]int64{1: 1, 3: 16, 4: 5, 5: 3})
		d.expect(d.offers[1], 1000-2-32-64-128, nil)
		if q, unfinished, err := d.Queue(ctx); q != "q:new" || unfinished || err != nil || d.part().Wanted != d.epoch {
			t.Errorf("queue %q, %v, part %+v", q, err, d.part())
		}
		if _, err := d.KeepQueue(ctx, "q:lost"); err == nil {
			t.Error("the lost queue came back")
		}
		if units, err = d.AdoptQueue(ctx, "q:new"); units != 0 || err != nil {
			t.Errorf("again: %d units, %v", units, err)
		}
		d.giveBackAll()
		d.expect(d.offers[0], 1000-1-5-3, map[order.UserID]int64{1: 1, 4: 5, 5: 3})
	})
}
