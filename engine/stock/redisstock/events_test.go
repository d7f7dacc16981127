package redisstock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/internal/redistest"
)

// rig is a partition on servers of the test's own, as an engine sells it.
type rig struct {
	*testing.T
	st   *Stock
	e    order.Epoch
	p    order.Partition
	next order.ID
}

const limitedOffer = 2 // offer 1 has no limit

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	o.Partitions = order.Partitions{Normal: 1, Flash: 1}
	o.DialTimeout, o.CallTimeout = 5*time.Second, 5*time.Second
	st, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return &rig{T: t, st: st, e: 1000, p: 1}
}

// onServer is the options of a driver of one server.
func onServer(addr, password string) Options {
	o := Defaults()
	o.Addrs, o.Credentials = []string{addr}, as("", password)
	return o
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// surely does f again until it was executed or refused by the fence: connections break in events.
func (r *rig) surely(f func(ctx context.Context) error) error {
	r.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		err := f(r.Context())
		var notReady *stock.NotReady
		if err == nil || errors.As(err, &notReady) {
			return err
		}
		if time.Now().After(end) {
			r.Fatalf("waited a minute: %v", err)
		}
	}
}

// begin opens a later epoch and tells whether fast stock was intact before it.
func (r *rig) begin() (intact bool) {
	r.Helper()
	r.e++
	var ok bool
	r.must(r.surely(func(ctx context.Context) (err error) {
		intact, ok, err = r.st.Shut(ctx, r.p, r.e)
		return err
	}))
	if !ok {
		r.Fatalf("epoch %d is not the highest", r.e)
	}
	page := &stock.LoadPage{Last: true, Lost: !intact, Logged: 7,
		Offers: []stock.LoadOffer{{Offer: 1, Left: 1000}, {Offer: limitedOffer, Left: 1000, Limit: 1000}}}
	r.must(r.surely(func(ctx context.Context) error { return r.st.Load(ctx, r.p, r.e, page) }))
	return intact
}

// call asks for one unit of each offer, each for a user of its own.
func (r *rig) call() *stock.ReserveCall {
	call := &stock.ReserveCall{Partition: r.p, Epoch: r.e}
	for offer := range order.OfferID(2) {
		r.next++
		call.Requests = append(call.Requests, stock.Request{Order: r.next, User: order.UserID(r.next), Key: uint64(r.next),
			Lines: []order.Line{{Offer: offer + 1, Quantity: 1}}, Record: []byte("record")})
	}
	return call
}

func (r *rig) sell(calls int) {
	r.Helper()
	for range calls {
		call := r.call()
		r.must(r.surely(func(ctx context.Context) error {
			_, err := r.st.Reserve(ctx, call)
			return err
		}))
	}
}

// refuses demands that nothing that sells or reads is executed under the rig's epoch, for one of the reasons, and that
// nothing is written.
func (r *rig) refuses(server *redistest.Server, reasons ...stock.Why) {
	r.Helper()
	r.must(r.surely(func(ctx context.Context) error {
		st, err := r.st.State(ctx, r.p)
		if err == nil && st.Ready {
			r.Fatalf("ready: %+v", st)
		}
		return err
	}))
	before := server.Do("DEBUG", "DIGEST")
	some := []order.BatchID{1}
	for name, f := range map[string]func(ctx context.Context) error{
		"reserve": func(ctx context.Context) error { _, err := r.st.Reserve(ctx, r.call()); return err },
		"lookup": func(ctx context.Context) error {
			_, err := r.st.Lookup(ctx, r.p, r.e, []stock.KeyQuery{{}})
			return err
		},
		"left": func(ctx context.Context) error { _, err := r.st.Left(ctx, r.p, r.e, []order.OfferID{1}); return err },
		"holdings": func(ctx context.Context) error {
			_, err := r.st.Holdings(ctx, r.p, r.e, []stock.Buyer{{Offer: 1}})
			return err
		},
		"apply": func(ctx context.Context) error {
			_, err := r.st.Apply(ctx, r.p, r.e, []order.LogRow{{N: 8}})
			return err
		},
		"confirm":  func(ctx context.Context) error { return r.st.Confirm(ctx, r.p, r.e, some) },
		"list":     func(ctx context.Context) error { _, err := r.st.BatchIDs(ctx, r.p, r.e, stock.Open); return err },
		"entries":  func(ctx context.Context) error { _, err := r.st.Entries(ctx, r.p, r.e, stock.Open, some); return err },
		"snapshot": func(ctx context.Context) error { _, err := r.st.Snapshot(ctx, r.p, r.e); return err },
		"load": func(ctx context.Context) error {
			return r.st.Load(ctx, r.p, r.e, &stock.LoadPage{Last: true, Lost: true})
		},
	} {
		err := r.surely(f)
		var notReady *stock.NotReady
		if !errors.As(err, &notReady) {
			r.Errorf("%s: %v, want NotReady", name, err)
		} else if name != "load" && !slices.Contains(reasons, notReady.Why) {
			r.Errorf("%s: %q, want one of %q", name, notReady.Why, reasons)
		}
	}
	if after := server.Do("DEBUG", "DIGEST"); after != before {
		r.Error("a refused call has written something")
	}
}

// reasonsOf says why fast stock is not ready behind an event.
func reasonsOf(event string) []stock.Why {
	switch event {
	case "restart without persistence", "flushed", "deleted fence":
		return []stock.Why{stock.FenceMissing}
	case "append-only file cut": // wherever it was cut
		return []stock.Why{stock.FenceMissing, stock.FenceShut, stock.OtherEpoch, stock.OtherIdentity}
	case "deleted left", "deleted offers", "deleted buyers", "deleted outbox", "deleted idem, even", "deleted idem, odd":
		return []stock.Why{stock.SentinelMissing}
	}
	return []stock.Why{stock.OtherIdentity}
}

// TestEvents: behind each of them nothing is sold under the old fence, a rebuild takes what is there for lost, and then
// all is well.
func TestEvents(t *testing.T) {
	t.Parallel()
	for _, event := range redistest.Events() {
		t.Run(event.Name, func(t *testing.T) {
			t.Parallel()
			site := event.Site(t)
			r := newRig(t, onServer(site.Front.Addr, site.Master.Password))
			if r.begin() {
				t.Error("an empty Redis is intact")
			}
			r.sell(5)
			event.Before(site)
			r.sell(5)
			event.Happen(site)
			r.refuses(site.Serving(), reasonsOf(event.Name)...)
			if r.begin() {
				t.Error("taken for intact")
			}
			r.sell(1)
			if !r.begin() {
				t.Error("a fast stock to which nothing happened is not intact")
			}
			if r.wantLeft(1000, 1000); site.Serving().Info("keyspace", "db0") == "" {
				t.Error("Redis is empty: the test shows nothing")
			}
		})
	}
}

// wantLeft demands the units left of both offers.
func (r *rig) wantLeft(want ...int64) {
	r.Helper()
	left, err := r.st.Left(r.Context(), r.p, r.e, []order.OfferID{1, limitedOffer})
	r.must(err)
	if fmt.Sprint(left) != fmt.Sprint(want) {
		r.Errorf("%v units left, want %v", left, want)
	}
}

// A replica answers for nobody, even with the data and the identity of its master: what it has may be late.
func TestReplicaServesNothing(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := master.Replica()
	r := newRig(t, onServer(master.Addr, master.Password))
	r.begin()
	r.sell(3)
	replica.CatchUp(master)
	reader := newRig(t, onServer(replica.Addr, master.Password))
	reader.e = r.e
	st, err := reader.st.State(t.Context(), r.p)
	if err != nil || st.Ready || st.Fence.Epoch != r.e {
		t.Errorf("the replica says %+v (%v)", st, err)
	}
	_, err = reader.st.Left(t.Context(), r.p, r.e, []order.OfferID{1})
	var notReady *stock.NotReady
	if !errors.As(err, &notReady) || notReady.Why != stock.OtherIdentity {
		t.Errorf("the replica answers a read: %v", err)
	}
	if _, err = reader.st.Reserve(t.Context(), reader.call()); !stock.NotExecuted(err) {
		t.Errorf("the replica answers a reserve: %v", err)
	}
	r.sell(1)
}
