package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"sluice/engine/order"
)

func TestBeginRebuild(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		x, _ := newSale(t, d, [2]int64{1, 0})
		before, err := x.Now(ctx, x.Home(x.p))
		noError(t, err)
		e, ok, err := x.BeginRebuild(ctx, x.p, x.epoch, false)
		if err != nil || !ok || e <= x.epoch || e < order.Epoch(before) {
			t.Fatalf("began %d %v %v after %d at %d", e, ok, err, x.epoch, before)
		}
		if part := x.part(); part.Epoch != e || part.BusyUntil < before+5000 || part.Barrier != x.epoch {
			t.Errorf("the partition is %+v", part)
		}
		begin := func(what string, seen order.Epoch, dead, want bool) {
			t.Helper()
			got, ok, err := x.BeginRebuild(ctx, x.p, seen, dead)
			if err != nil || ok != want {
				t.Errorf("%s: %d %v %v", what, got, ok, err)
			}
			if ok {
				e = got
			}
		}
		begin("of an older epoch", x.epoch, true, false)
		begin("while the owner is busy", e, false, false)
		begin("while a dead owner is busy", e, true, true)
		if ok, err := x.RenewRebuild(ctx, x.p, e-1); ok || err != nil {
			t.Errorf("renewed a rebuild that was overtaken: %v %v", ok, err)
		}
		noError(t, x.EndRebuild(ctx, x.p, e-1))
		begin("after the end of an older one", e, false, false)
		if ok, err := x.RenewRebuild(ctx, x.p, e); !ok || err != nil {
			t.Errorf("renew: %v %v", ok, err)
		}
		noError(t, x.EndRebuild(ctx, x.p, e))
		begin("after its end", e, false, true)
	})
}

func TestBeginRebuildRace(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, _ := newSale(t, d, [2]int64{1, 0})
		for range 5 {
			var won atomic.Int64
			race(8, func(int) {
				_, ok, err := x.BeginRebuild(context.Background(), x.p, x.epoch, true)
				if err != nil {
					t.Error(err)
				}
				if ok {
					won.Add(1)
				}
			})
			if won.Load() != 1 {
				t.Fatalf("%d of 8 began the same rebuild", won.Load())
			}
			x.epoch = x.part().Epoch
		}
	})
}

// The clock may stand before the last epoch: epochs grow all the same.
func TestEpochsGrowWithoutTheClock(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, _ := newSale(t, d, [2]int64{1, 0})
		const future = order.Epoch(1) << 50
		noError(t, x.update(context.Background(), x.Home(x.p), 0, func(t *tx) error {
			_, err := t.exec("UPDATE part SET epoch = ?", future)
			return err
		}))
		if e, ok, err := x.BeginRebuild(context.Background(), x.p, future, false); e != future+1 || !ok || err != nil {
			t.Errorf("began %d %v %v, want %d", e, ok, err, future+1)
		}
	})
}

func TestWantRebuild(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, _ := newSale(t, d, [2]int64{1, 0})
		noError(t, x.WantRebuild(context.Background(), x.p, x.epoch))
		noError(t, x.WantRebuild(context.Background(), x.p, x.epoch-1))
		if p := x.part(); p.Wanted != x.epoch {
			t.Errorf("wanted %d, want %d", p.Wanted, x.epoch)
		}
	})
}

func TestPartsOfEachHome(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		s := newStore(t, d, 3)
		seen := map[order.Partition]int{}
		for home := range s.Shards() {
			parts, now, err := s.Parts(context.Background(), home)
			noError(t, err)
			if now == 0 {
				t.Error("no clock")
			}
			for _, p := range parts {
				seen[p.Partition]++
				if s.Home(p.Partition) != home || p != (Part{Partition: p.Partition}) {
					t.Errorf("shard %d has %+v", home, p)
				}
			}
		}
		if len(seen) != testPartitions.Count() {
			t.Errorf("partitions %v", seen)
		}
	})
}

func TestSettle(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		x, ids := newSale(t, d, [2]int64{1 << 30, 0})
		first := x.epoch
		var messages []*order.Message
		for range 2*settlePiece + 5 {
			messages = append(messages, x.batch(users(1, 1), int(ids[0]), 1))
		}
		x.claim(messages...)
		x.rebuild()
		kept := x.batch(users(1, 1), int(ids[0]), 1)
		x.claim(kept)
		other := order.Partition(0)
		for _, step := range []struct {
			settled Settled
			want    Settled
			claims  int
		}{
			{Settled{x.p, first, 50}, Settled{x.p, first, 50}, len(messages) + 1},
			{Settled{x.p, x.epoch, 40}, Settled{x.p, x.epoch, 50}, 1},
			{Settled{x.p, first, 60}, Settled{x.p, x.epoch, 60}, 1},
		} {
			noError(t, x.Settle(ctx, []Settled{step.settled, {Partition: other, SettledAt: 1}}))
			part := x.part()
			if got := (Settled{part.Partition, part.Recorded, part.SettledAt}); got != step.want {
				t.Errorf("after %+v the partition is %+v, want %+v", step.settled, got, step.want)
			}
			if n := x.tally("claimed_batch"); n != step.claims {
				t.Errorf("after %+v %d claims are left, want %d", step.settled, n, step.claims)
			}
		}
	})
}

func (x *sale) tally(table string) (n int) {
	x.t.Helper()
	noError(x.t, x.shards[x.Home(x.p)].read.QueryRow(fmt.Sprintf("SELECT COUNT(*) FROM %s", table)).Scan(&n))
	return n
}
