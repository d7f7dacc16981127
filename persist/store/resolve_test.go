package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

// poisoned places an order that its user shard refuses, and parks it as persist does.
func (d *desk) poisoned(o *order.Record) (ParkedRef, Row) {
	d.t.Helper()
	row := d.claimed(o)[0]
	poison := d.record(time.Hour, row).Poison
	if len(poison) != 1 {
		d.t.Fatalf("order %d is not refused", o.ID)
	}
	return d.park(row, poison[0].Err), row
}

func (d *desk) park(row Row, why string) ParkedRef {
	d.t.Helper()
	noError(d.t, d.Park(context.Background(), d.Home(d.p), []ParkedOrder{{Order: row.Record.ID, Batch: row.Batch, Partition: d.p,
		Shard: d.UserShard(row.Record.User), Epoch: row.Epoch, Status: row.Status, Reason: row.Reason, Error: why,
		Bytes: order.AppendRecord(nil, row.Record)}}))
	return ParkedRef{Batch: row.Batch, Order: row.Record.ID}
}

func (d *desk) rejects(ref ParkedRef, want string) {
	d.t.Helper()
	out, err := d.RejectParked(context.Background(), ref)
	noError(d.t, err)
	d.resolved(ref, out, want)
}

func (d *desk) replays(ref ParkedRef, want string) {
	d.t.Helper()
	out, err := d.ReplayParked(context.Background(), ref, RecordOptions{Unpaid: time.Hour})
	noError(d.t, err)
	d.resolved(ref, out, want)
}

// resolved compares verdict, whether the order is parked, and status and reason as stored.
func (d *desk) resolved(ref ParkedRef, out Resolution, want string) {
	d.t.Helper()
	parked, err := d.FindParked(context.Background(), ref)
	noError(d.t, err)
	got := fmt.Sprint(out.Verdict, " parked=", parked != nil)
	if out.Order != nil {
		got += fmt.Sprint(" ", out.Order.Status, " ", out.Order.Reason)
	}
	if got != want {
		d.t.Errorf("order %d: %s (%s), want %s", ref.Order, got, out.Error, want)
	}
}

// TestRejectParked rejects poison whose whole row is refused, whose whole row as a reject is not, and whose every row is.
func TestRejectParked(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 5})
		bare, whole, hopeless := d.order(1, "a", 0, 2), d.order(2, "b", 0, 3), d.order(3, "c", 0, 1)
		bare.Shop = 666
		d.forbid("@shop_id = 666 OR @user_id = 2 AND @status <> 'rejected' OR @user_id = 3")
		refs := make(map[*order.Record]ParkedRef)
		for _, o := range []*order.Record{bare, whole, hopeless} {
			refs[o], _ = d.poisoned(o)
		}
		d.expect(d.offers[0], 94, map[order.UserID]int64{1: 2, 2: 3, 3: 1})
		for range 2 { // a repeat answers the same and changes nothing
			d.rejects(refs[bare], "stored parked=false rejected refused")
			d.rejects(refs[whole], "stored parked=false rejected refused")
			d.rejects(refs[hopeless], "refused parked=true")
			d.giveBackAll()
			d.expect(d.offers[0], 99, map[order.UserID]int64{3: 1})
		}
		d.replays(refs[whole], "stored parked=false rejected refused")
		if o := d.read(bare.ID); len(o.Items) != 0 || o.Currency != bareCurrency || o.User != 1 {
			t.Errorf("the bare row: %+v", o)
		}
		if o := d.read(whole.ID); len(o.Items) != 1 || o.Key != "b" || d.holdsKey(o.ID) {
			t.Errorf("the whole row: %+v", o)
		}
		if diff := cmp.Diff([]string{"1 refused by operator"}, d.events(bare.ID)); diff != "" {
			t.Error(diff)
		}
		if n := sum(d.flushes()); n != 2 {
			t.Errorf("the flushes count %d orders, 2 are stored", n)
		}
		d.allow()
		d.rejects(refs[hopeless], "stored parked=false rejected refused")
		d.giveBackAll()
		d.expect(d.offers[0], 100, nil)
	})
}

func TestRejectParkedIsRefused(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 0})
		waiting := d.park(d.claimed(d.order(1, "", 0, 1))[0], "")
		d.rejects(waiting, "not_poison parked=true")
		d.rejects(ParkedRef{Batch: 9, Order: waiting.Order}, "not_parked parked=false")
		d.replays(ParkedRef{Batch: 9, Order: waiting.Order}, "not_parked parked=false")
		row := d.claimed(d.order(2, "", 0, 1))[0]
		recorded := d.park(row, "refused")
		d.record(time.Hour, row) // its message came again, and the shard took it
		d.rejects(recorded, "stored_alive parked=false awaiting_payment ")
		d.rejects(recorded, "stored_alive parked=false awaiting_payment ")
		rejected := d.claimed(d.order(3, "", 0, 1))[0]
		rejected.Status, rejected.Reason = order.Rejected, order.ReasonCut
		d.rejects(d.park(rejected, "refused"), "stored parked=false rejected cut")
		if due := d.due(); len(due) != 0 {
			t.Errorf("due: %v", due)
		}
	})
}

// TestReplayParked replays poison before and after its shard was repaired.
func TestReplayParked(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 5})
		o := d.order(1, "a", 0, 2)
		o.Shop = 666
		d.forbidShop(666)
		ref, row := d.poisoned(o)
		d.park(row, "an old error")
		d.replays(ref, "refused parked=true")
		if parked, err := d.FindParked(context.Background(), ref); err != nil || parked.Error == "an old error" {
			t.Errorf("the error after a replay: %+v, %v", parked, err)
		}
		d.allow()
		d.replays(ref, "stored parked=false awaiting_payment ")
		d.replays(ref, "stored parked=false awaiting_payment ")
		d.rejects(ref, "stored_alive parked=false awaiting_payment ")
		d.expect(d.offers[0], 98, map[order.UserID]int64{1: 2})
	})
}

// TestReplayParkedAfterItsKeyWasTaken: fast stock forgot the key, the buyer tried again, and the second order is stored
// already. Only one of them lives.
func TestReplayParkedAfterItsKeyWasTaken(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 5})
		d.forbidShop(666)
		first, other := d.order(1, "a", 0, 2), d.order(2, "a", 0, 1)
		first.Shop, other.Shop = 666, 666
		ref, _ := d.poisoned(first)
		otherRef, _ := d.poisoned(other)
		second, reused := d.order(1, "a", 0, 2), d.order(2, "a", 0, 1)
		reused.Fingerprint = 7
		d.place(second, reused)
		d.allow()
		d.replays(ref, "stored parked=false rejected duplicate")
		d.replays(otherRef, "stored parked=false rejected key_reused")
		if o := d.read(first.ID); o.DuplicateOf != second.ID {
			t.Errorf("it is a duplicate of %d, want %d", o.DuplicateOf, second.ID)
		}
		d.giveBackAll()
		d.expect(d.offers[0], 97, map[order.UserID]int64{1: 2, 2: 1})
	})
}

// TestRejectParkedSecondClaim: the order is stored with another batch; only the second claim comes back.
func TestRejectParkedSecondClaim(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 9})
		o := d.order(1, "a", 0, 2)
		d.place(o)
		second := d.claimed(d.order(1, "", 0, 1), o)[1]
		d.rejects(d.park(second, "refused"), "stored parked=false awaiting_payment ")
		d.park(second, "refused") // the process died before the parked row was gone
		d.rejects(ParkedRef{Batch: second.Batch, Order: o.ID}, "stored parked=false awaiting_payment ")
		d.giveBackAll()
		d.expect(d.offers[0], 97, map[order.UserID]int64{1: 3})
	})
}

// TestUnparkStored: what a process that died between the two steps has left goes by itself; other poison stays.
func TestUnparkStored(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 0})
		ctx := context.Background()
		o := d.order(1, "", 0, 1)
		row := d.claimed(o)[0]
		d.rejects(d.park(row, "refused"), "stored parked=false rejected refused")
		done := d.park(row, "refused")
		stays := d.park(d.claimed(d.order(1, "", 0, 1))[0], "refused")
		for shard := range d.Shards() {
			noError(t, d.UnparkStored(ctx, d.Home(d.p), shard))
		}
		for ref, want := range map[ParkedRef]bool{done: false, stays: true} {
			if parked, err := d.FindParked(ctx, ref); err != nil || (parked != nil) != want {
				t.Errorf("order %d: %+v, %v", ref.Order, parked, err)
			}
		}
	})
}

func TestListParked(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{100, 0})
		var all, poison, shard1 []ParkedRef
		for i := range 7 {
			row := d.claimed(d.order(order.UserID(i), "", 0, 1))[0]
			for row.Batch = 1; row.Batch <= 2; row.Batch++ { // in two batches each
				ref := d.park(row, map[bool]string{true: "refused"}[i%2 == 0])
				if all = append(all, ref); i%2 == 0 {
					poison = append(poison, ref)
				}
				if d.UserShard(row.Record.User) == 1 {
					shard1 = append(shard1, ref)
				}
			}
		}
		for name, c := range map[string]struct {
			filter ParkedFilter
			want   []ParkedRef
		}{
			"all":     {ParkedFilter{Shard: -1}, all},
			"poison":  {ParkedFilter{Shard: -1, Poison: true}, poison},
			"shard 1": {ParkedFilter{Shard: 1}, shard1},
		} {
			var got []ParkedRef
			c.filter.Limit = 3
			for {
				page, err := d.ListParked(context.Background(), c.filter)
				noError(t, err)
				for i := range page {
					got = append(got, page[i].Ref())
				}
				if len(page) < c.filter.Limit {
					break
				}
				c.filter.After = page[len(page)-1].Ref()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	})
}

// TestResolveAtOnce lets replays, rejects and the sweep race for the same orders: one of them decides, and the units of
// what was rejected come back once.
func TestResolveAtOnce(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		d := newDesk(t, dialect, [2]int64{1000, 5})
		const n = 40
		var rows []Row
		var refs []ParkedRef
		for i := range n {
			row := d.claimed(d.order(order.UserID(i), "a", 0, 2))[0]
			rows, refs = append(rows, row), append(refs, d.park(row, "refused"))
		}
		ctx := context.Background()
		race(6, func(worker int) {
			for i := range n {
				i = (i + worker/3) % n
				var err error
				switch worker % 3 {
				case 0:
					_, err = d.RejectParked(ctx, refs[i])
				case 1:
					_, err = d.ReplayParked(ctx, refs[i], RecordOptions{Unpaid: time.Hour})
				case 2:
					_, err = d.Record(ctx, d.UserShard(rows[i].Record.User), rows[i:i+1], RecordOptions{Kind: order.Flash, Unpaid: time.Hour})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		d.giveBackAll()
		held := map[order.UserID]int64{}
		for i, row := range rows {
			d.rejects(refs[i], map[bool]string{true: "stored_alive parked=false awaiting_payment ", false: "stored parked=false rejected refused"}[d.read(row.Record.ID).Status.Live()])
			if d.read(row.Record.ID).Status.Live() {
				held[row.Record.User] = 2
			}
		}
		d.giveBackAll()
		d.expect(d.offers[0], 1000-2*int64(len(held)), held)
		if got := sum(d.flushes()); got != n {
			t.Errorf("the flushes' events count %d orders of %d", got, n)
		}
	})
}
