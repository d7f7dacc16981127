package store

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

func TestParked(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := newDesk(t, dialect, [2]int64{100, 0})
		home := d.Home(d.p)
		var parked []ParkedOrder
		park := func(o *order.Record, batch order.BatchID, shard int, e order.Epoch) {
			parked = append(parked, ParkedOrder{Order: o.ID, Batch: batch, Shard: shard, Partition: d.p, Epoch: e,
				Status: order.AwaitingPayment, Bytes: order.AppendRecord(nil, o)})
		}
		a, b, c := d.order(1, "a", 0, 1), d.order(2, "b", 0, 1), d.order(3, "", 0, 1)
		park(a, 1, 0, 7)
		park(b, 1, 0, 6)
		park(b, 2, 0, 6)
		park(c, 1, 1, 5)
		parked[0].Status, parked[0].Reason = order.Rejected, order.ReasonSoldOut
		expect := func(what string, want []ParkedOrder, shard, limit int) {
			t.Helper()
			got, err := d.Parked(ctx, home, shard, limit)
			noError(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		expectEpochs := func(want order.Epoch) {
			t.Helper()
			epochs, err := d.ParkedEpochs(ctx, home)
			noError(t, err)
			if epochs[d.p] != want {
				t.Errorf("lowest parked epoch is %d, want %d", epochs[d.p], want)
			}
		}
		expectAny := func(want bool) {
			t.Helper()
			got, err := d.AnyParked(ctx)
			if err != nil || got != want {
				t.Errorf("anything parked: %v %v", got, err)
			}
		}
		expectAny(false)
		noError(t, d.Park(ctx, home, []ParkedOrder{parked[3], parked[1], parked[0], parked[2]}))
		noError(t, d.Park(ctx, home, parked)) // a repeat changes nothing
		expect("all of shard 0", parked[:3], 0, 10)
		expect("the oldest", parked[:1], 0, 1)
		expect("an order comes with all of its batches", parked[:3], 0, 2)
		expect("shard 1", parked[3:], 1, 10)
		expectEpochs(5)
		expectAny(true)

		poison := parked[3]
		poison.Error = "refused: \xff\x00"
		noError(t, d.Park(ctx, home, []ParkedOrder{poison}))
		noError(t, d.Park(ctx, home, parked)) // a message that comes again does not heal it
		expect("without poison", nil, 1, 10)
		expectEpochs(6)
		noError(t, d.Unpark(ctx, home, []ParkedOrder{parked[1], parked[0], parked[3], {Order: 99, Batch: 1}}))
		expect("the claim that was parked meanwhile", parked[2:3], 0, 10)
		noError(t, d.Unpark(ctx, home, parked[2:3]))
		expect("nothing is left", nil, 0, 10)
		expectEpochs(0)
		expectAny(true)
	})
}

// TestLivePoison: of what is parked only live poison holds keys that no other place knows.
func TestLivePoison(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := newDesk(t, dialect, [2]int64{100, 0})
		home := d.Home(d.p)
		park := func(o *order.Record, shard int, status order.Status, why string) {
			t.Helper()
			noError(t, d.Park(ctx, home, []ParkedOrder{{Order: o.ID, Batch: 1, Shard: shard, Partition: d.p, Epoch: 7, Status: status,
				Error: why, Bytes: order.AppendRecord(nil, o)}}))
		}
		live := d.order(1, "a", 0, 1)
		park(live, 1, order.AwaitingPayment, "refused")
		park(d.order(2, "b", 0, 1), 1, order.AwaitingPayment, "")
		park(d.order(3, "c", 0, 1), 1, order.Rejected, "refused")
		list, err := d.LivePoison(ctx, home, 1)
		noError(t, err)
		if len(list) != 1 || list[0].ID != live.ID || list[0].KeyHash() != live.KeyHash() || list[0].Fingerprint != live.Fingerprint {
			t.Errorf("live poison of shard 1: %+v", list)
		}
		if list, err := d.LivePoison(ctx, home, 0); err != nil || len(list) > 0 {
			t.Errorf("live poison of shard 0: %+v, %v", list, err)
		}
		var many []ParkedOrder
		for range poisonMax {
			o := d.order(4, "d", 0, 1)
			many = append(many, ParkedOrder{Order: o.ID, Batch: 1, Shard: 1, Partition: d.p, Epoch: 7, Status: order.AwaitingPayment,
				Error: "refused", Bytes: order.AppendRecord(nil, o)})
		}
		noError(t, d.Park(ctx, home, many))
		if _, err := d.LivePoison(ctx, home, 1); err == nil {
			t.Errorf("%d poison orders are no error", poisonMax+1)
		}
	})
}

// TestParkedRoundTrip parks a flush, records it from what was parked, and then gets the flush again.
func TestParkedRoundTrip(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		ctx := context.Background()
		d := newDesk(t, dialect, [2]int64{100_000, 0})
		home := d.Home(d.p)
		rows := d.oddFlush(10)
		var parked []ParkedOrder
		for _, r := range rows {
			parked = append(parked, ParkedOrder{Order: r.Record.ID, Batch: r.Batch, Shard: d.UserShard(r.Record.User), Partition: r.Partition,
				Epoch: r.Epoch, Status: r.Status, Reason: r.Reason, Bytes: order.AppendRecord(nil, r.Record)})
		}
		noError(t, d.Park(ctx, home, parked))
		for shard := range d.Shards() {
			list, err := d.Parked(ctx, home, shard, 100)
			noError(t, err)
			var back []Row
			for _, o := range list {
				r := new(order.Record)
				_, err := order.DecodeRecord(o.Bytes, r)
				noError(t, err)
				back = append(back, Row{Record: r, Batch: o.Batch, Epoch: o.Epoch, Partition: o.Partition, Status: o.Status, Reason: o.Reason})
			}
			d.record(time.Hour, back...)
			noError(t, d.Unpark(ctx, home, list))
		}
		want := d.outcome(rows)
		if got := d.record(time.Hour, rows...); got.Duplicates+got.Alarms > 0 {
			t.Errorf("the flush again: %+v", got)
		}
		if diff := cmp.Diff(want, d.outcome(rows)); diff != "" {
			t.Error(diff)
		}
		if live, err := d.AnyParked(ctx); live || err != nil {
			t.Errorf("something is parked: %v %v", live, err)
		}
	})
}
