package order_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/order"
)

const day = order.Milli(24 * 3600 * 1000)

// now0 is an ordinary moment: 2026-01-01 UTC.
const now0 = order.Milli(1767225600000)

func TestIDLayout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		ms              order.Milli
		node            uint8
		shard, sequence uint8
		want            order.ID
	}{
		{1735689600000, 0, 0, 1, 1},
		{1735689600000, 0, 1, 0, 1 << 8},
		{1735689600000, 1, 0, 0, 1 << 16},
		{1735689600001, 0, 0, 0, 1 << 23},
		{now0, 127, 255, 255, 365*86400*1000<<23 | 1<<23 - 1},
		{1735689600000 + 1<<40 - 1, 127, 255, 255, order.MaxID},
	}
	for _, test := range tests {
		id := order.MakeID(test.ms, test.node, test.shard, test.sequence)
		if id != test.want {
			t.Errorf("MakeID(%d, %d, %d, %d) = %d, want %d", test.ms, test.node, test.shard, test.sequence, id, test.want)
		}
		if id.Time() != test.ms || id.Node() != test.node || id.VirtualShard() != test.shard {
			t.Errorf("id %d reads as time %d, node %d, shard %d", id, id.Time(), id.Node(), id.VirtualShard())
		}
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		s    string
		want uint64
		ok   bool
	}{
		{"1", 1, true}, {"9223372036854775807", order.MaxID, true},
		{"9223372036854775808", 0, false}, {"9999999999999999999", 0, false}, {"18446744073709551617", 0, false},
		{"", 0, false}, {"0", 0, false}, {"007", 0, false}, {"-1", 0, false}, {"+1", 0, false}, {" 1", 0, false}, {"1 ", 0, false}, {"٣", 0, false},
	}
	for _, test := range tests {
		if got, ok := order.ParseID(test.s); ok != test.ok || (ok && got != test.want) {
			t.Errorf("ParseID(%q) = %d, %v; want %d, %v", test.s, got, ok, test.want, test.ok)
		}
	}
}

// clock is a clock that a test sets.
type clock struct{ ms atomic.Int64 }

func clockAt(ms order.Milli) *clock {
	c := &clock{}
	c.ms.Store(int64(ms))
	return c
}

func (c *clock) now() time.Time      { return time.UnixMilli(c.ms.Load()) }
func (c *clock) add(d time.Duration) { c.ms.Add(d.Milliseconds()) }
func mustNext(t *testing.T, g *order.IDs, u order.UserID) order.ID {
	t.Helper()
	id, err := g.Next(u)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestIDsUniqueUnderConcurrency: 16 goroutines, users of all shards and one busy shard, on the real clock.
func TestIDsUniqueUnderConcurrency(t *testing.T) {
	t.Parallel()
	g := order.NewIDs(nil)
	now := order.MilliOf(time.Now())
	g.Lease(11, now-1, now+day)
	const goroutines, each = 16, 5_000
	lists := make([][]order.ID, goroutines)
	var wg sync.WaitGroup
	for i := range lists {
		wg.Go(func() {
			for n := range each {
				user := order.UserID(i*each + n + 1)
				if n%2 == 0 {
					user = 42
				}
				id, err := g.Next(user)
				for errors.Is(err, order.ErrNoLease) { // a second ahead of the clock: the shard of user 42 is that busy
					id, err = g.Next(user)
				}
				if id.VirtualShard() != order.VirtualShard(user) || id.Node() != 11 {
					t.Errorf("id %d of user %d: shard %d, node %d", id, user, id.VirtualShard(), id.Node())
				}
				lists[i] = append(lists[i], id)
			}
		})
	}
	wg.Wait()
	seen := make(map[order.ID]bool, goroutines*each)
	for _, list := range lists {
		last := map[uint8]order.ID{}
		for _, id := range list {
			if seen[id] {
				t.Fatalf("id %d was given twice", id)
			}
			seen[id] = true
			if id <= last[id.VirtualShard()] {
				t.Fatalf("id %d came after %d", id, last[id.VirtualShard()])
			}
			last[id.VirtualShard()] = id
		}
	}
}

func TestIDsOverflowIntoTheNextMillisecond(t *testing.T) {
	t.Parallel()
	c := clockAt(now0)
	g := order.NewIDs(c.now)
	g.Lease(1, now0, now0+day)
	for i := range 256 {
		if id := mustNext(t, g, 42); id.Time() != now0 || uint8(id) != uint8(i) {
			t.Fatalf("id %d: time %d, sequence %d", i, id.Time(), uint8(id))
		}
	}
	if id := mustNext(t, g, 42); id.Time() != now0+1 || uint8(id) != 0 {
		t.Errorf("id 257 has time %d and sequence %d, want the next millisecond and 0", id.Time(), uint8(id))
	}
	if id := mustNext(t, g, 43); id.Time() != now0 {
		t.Errorf("another shard was pushed on to %d", id.Time())
	}
	c.add(time.Second)
	if id := mustNext(t, g, 42); id.Time() != now0+1000 || uint8(id) != 0 {
		t.Errorf("after a second: time %d, sequence %d", id.Time(), uint8(id))
	}
}

// TestIDsAtMostASecondAhead: a shard that spends its milliseconds faster than they pass is refused, then served again.
func TestIDsAtMostASecondAhead(t *testing.T) {
	t.Parallel()
	c := clockAt(now0)
	g := order.NewIDs(c.now)
	g.Lease(1, now0, now0+day)
	for range 1001 * 256 {
		mustNext(t, g, 42)
	}
	if id, err := g.Next(42); !errors.Is(err, order.ErrNoLease) {
		t.Fatalf("id %d lies at %d, more than a second ahead of %d", id, id.Time(), now0)
	}
	c.add(time.Millisecond)
	if id := mustNext(t, g, 42); id.Time() != now0+1001 {
		t.Errorf("a millisecond later: time %d, want %d", id.Time(), now0+1001)
	}
}

func TestIDsNeverGoBack(t *testing.T) {
	t.Parallel()
	c := clockAt(now0)
	g := order.NewIDs(c.now)
	g.Lease(1, now0-day, now0+day)
	first := mustNext(t, g, 42)
	c.add(-500 * time.Millisecond)
	second := mustNext(t, g, 42)
	if second <= first {
		t.Errorf("the clock went back and so did the id: %d after %d", second, first)
	}
	c.add(-time.Hour)
	if id, err := g.Next(42); !errors.Is(err, order.ErrNoLease) {
		t.Errorf("the clock is an hour behind the last id, but id %d was given", id)
	}
	g.Lease(2, now0+1, now0+day) // another node number: since lies after everything given under it before
	c.add(time.Hour + 501*time.Millisecond)
	if third := mustNext(t, g, 42); third <= second || third.Node() != 2 {
		t.Errorf("under a new lease: id %d, node %d, after %d", third, third.Node(), second)
	}
}

func TestIDsStayInTheLease(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		since, until order.Milli
		ok           bool
	}{
		{"no lease", 0, 0, false},
		{"first millisecond", now0, now0 + 1, true},
		{"not yet", now0 + 1, now0 + day, false},
		{"just over", now0 - day, now0, false},
		{"last millisecond", now0 - day, now0 + 1, true},
	}
	for _, test := range tests {
		g := order.NewIDs(clockAt(now0).now)
		if test.until != 0 {
			g.Lease(7, test.since, test.until)
		}
		id, err := g.Next(42)
		if (err == nil) != test.ok || g.Ready() != test.ok {
			t.Errorf("%s: id %d, error %v, ready %v; want ok %v", test.name, id, err, g.Ready(), test.ok)
		}
	}
}

// TestIDsOverflowStopsAtTheEndOfTheLease: running ahead of the clock must not run out of the lease.
func TestIDsOverflowStopsAtTheEndOfTheLease(t *testing.T) {
	t.Parallel()
	g := order.NewIDs(clockAt(now0).now)
	g.Lease(1, now0, now0+1)
	for range 256 {
		mustNext(t, g, 42)
	}
	if id, err := g.Next(42); !errors.Is(err, order.ErrNoLease) {
		t.Errorf("id %d lies at %d, the lease ended before %d", id, id.Time(), now0+1)
	}
}

func TestIDsLoseTheLease(t *testing.T) {
	t.Parallel()
	g := order.NewIDs(clockAt(now0).now)
	g.Lease(1, now0, now0+day)
	mustNext(t, g, 42)
	g.Lease(0, 0, 0)
	if id, err := g.Next(42); !errors.Is(err, order.ErrNoLease) || g.Ready() {
		t.Errorf("without a lease: id %d, error %v, ready %v", id, err, g.Ready())
	}
}

func BenchmarkIDsNext(b *testing.B) {
	g := order.NewIDs(nil)
	now := order.MilliOf(time.Now())
	g.Lease(1, now-1, now+day)
	var user atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = g.Next(order.UserID(user.Add(1)))
		}
	})
}
