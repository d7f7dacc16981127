package store

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

// sale is a store with one partition open at an epoch, as a rebuild leaves it.
type sale struct {
	*Store
	t     *testing.T
	p     order.Partition
	epoch order.Epoch
	ids   order.ID
}

// newSale creates flash offers of one group, all in one partition, and opens it. Each pair is total and limit.
func newSale(t *testing.T, d Dialect, offers ...[2]int64) (*sale, []order.OfferID) {
	t.Helper()
	return newSaleOn(t, testOptions(t, d, 2), offers...)
}

func newSaleOn(t *testing.T, o Options, offers ...[2]int64) (*sale, []order.OfferID) {
	t.Helper()
	s := openStore(t, o)
	list := make([]order.Offer, len(offers))
	for i, o := range offers {
		list[i] = order.Offer{Shop: 1, Group: "g", SKU: "sku", Title: "offer", Kind: order.Flash, UnitPrice: 100,
			Currency: "CNY", Total: o[0], Limit: uint32(o[1])}
	}
	list, err := s.CreateOffers(context.Background(), list)
	noError(t, err)
	ids := make([]order.OfferID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	x := &sale{Store: s, t: t, p: s.Partitions().Of(order.Flash, "g")}
	x.rebuild()
	return x, ids
}

// rebuild begins the next epoch and claims its barrier.
func (x *sale) rebuild() {
	x.t.Helper()
	e, ok, err := x.BeginRebuild(context.Background(), x.p, x.epoch, true)
	if err != nil || !ok {
		x.t.Fatalf("begin the rebuild after %d: %v %v", x.epoch, ok, err)
	}
	x.epoch = e
	x.claim(barrier(x.p, e))
	noError(x.t, x.EndRebuild(context.Background(), x.p, e))
}

// batch is a batch of the present epoch with an order for each user, all for the same lines.
func (x *sale) batch(users []order.UserID, lines ...int) *order.Message {
	var records []order.Record
	for _, u := range users {
		x.ids++
		records = append(records, record(x.ids, u, lines...))
	}
	return batch(x.p, x.epoch, records...)
}

func (x *sale) claim(messages ...*order.Message) []Verdict {
	x.t.Helper()
	verdicts, err := x.Claim(context.Background(), x.Home(x.p), messages)
	noError(x.t, err)
	return verdicts
}

// expect compares what is sold and held with what should be.
func (x *sale) expect(offer order.OfferID, left int64, held map[order.UserID]int64) {
	x.t.Helper()
	c, err := x.Count(context.Background(), x.p, x.epoch)
	noError(x.t, err)
	for _, o := range c.Offers {
		if o.Offer == offer && o.Left != left {
			x.t.Errorf("%d units left of offer %d, want %d", o.Left, offer, left)
		}
	}
	got := map[order.UserID]int64{}
	for _, b := range c.Buyers {
		if b.Offer == offer {
			got[b.User] = b.Units
		}
	}
	if diff := cmp.Diff(held, got); held != nil && diff != "" {
		x.t.Errorf("holdings of offer %d: %s", offer, diff)
	}
}

func (x *sale) part() Part {
	x.t.Helper()
	parts, _, err := x.Parts(context.Background(), x.Home(x.p))
	noError(x.t, err)
	for _, p := range parts {
		if p.Partition == x.p {
			return p
		}
	}
	x.t.Fatalf("partition %d is not among %v", x.p, parts)
	return Part{}
}

func users(from, to order.UserID) (list []order.UserID) {
	for u := from; u <= to; u++ {
		list = append(list, u)
	}
	return list
}

func TestClaim(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{100, 2}, [2]int64{50, 0})
		both := x.batch(users(1, 3), int(ids[0]), 2, int(ids[1]), 1)
		one := x.batch(users(4, 4), int(ids[0]), 1)
		for range 2 { // the second time changes nothing
			if diff := cmp.Diff([]Verdict{{}, {}}, x.claim(both, one)); diff != "" {
				t.Error(diff)
			}
			x.expect(ids[0], 93, map[order.UserID]int64{1: 2, 2: 2, 3: 2, 4: 1})
			x.expect(ids[1], 47, map[order.UserID]int64{})
		}
		if p := x.part(); p.Wanted != 0 {
			t.Errorf("a rebuild of %d is wanted though no guard refused", p.Wanted)
		}
	})
}

func TestClaimManyOffersAndBuyers(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		offers := make([][2]int64, 3*stockChunk+1)
		for i := range offers {
			offers[i] = [2]int64{1000, 5}
		}
		x, ids := newSale(t, d, offers...)
		var records []order.Record
		for i, id := range ids {
			for u := range order.UserID(3) {
				x.ids++
				records = append(records, record(x.ids, u+1, int(id), 1+i%3))
			}
		}
		x.claim(batch(x.p, x.epoch, records...))
		c, err := x.Count(context.Background(), x.p, x.epoch)
		noError(t, err)
		for i, o := range c.Offers {
			if n := int64(1 + i%3); o.Left != 1000-3*n || c.Buyers[3*i].Units != n {
				t.Errorf("%d units left of offer %d, %d with the first buyer, want %d", o.Left, o.Offer, c.Buyers[3*i].Units, n)
			}
		}
		if len(c.Offers) != len(ids) || len(c.Buyers) != 3*len(ids) {
			t.Errorf("%d offers, %d buyers", len(c.Offers), len(c.Buyers))
		}
	})
}

func TestClaimRefusedByGuard(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{4, 2}, [2]int64{100, 0})
		x.claim(x.batch(users(1, 1), int(ids[0]), 1)) // user 1 holds 1, 3 left
		records := []order.Record{
			record(101, 1, int(ids[1]), 1, int(ids[0]), 2), // over the limit: takes nothing of the other line
			record(102, 2, int(ids[0]), 2, int(ids[1]), 1), // 1 left
			record(103, 3, int(ids[1]), 5, int(ids[0]), 2), // sold out
			record(104, 4, int(ids[1]), 7),
			record(105, 1, int(ids[0]), 1), // the last one
			record(106, 5, 999_999, 1),     // an offer that is not there
		}
		m, other := batch(x.p, x.epoch, records...), x.batch(users(9, 9), int(ids[1]), 1)
		want := []Verdict{{Rejects: []Reject{{0, order.ReasonOverLimit}, {2, order.ReasonSoldOut}, {5, order.ReasonSoldOut}}}, {}}
		for range 2 { // the stored rejects are what a repeat gets
			if diff := cmp.Diff(want, x.claim(m, other)); diff != "" {
				t.Error(diff)
			}
		}
		x.expect(ids[0], 0, map[order.UserID]int64{1: 2, 2: 2})
		x.expect(ids[1], 100-1-7-1, nil)
		if p := x.part(); p.Wanted != x.epoch {
			t.Errorf("a rebuild of %d is wanted, want %d", p.Wanted, x.epoch)
		}
	})
}

// A reject of an epoch that is being replaced says nothing about the stock that comes.
func TestClaimRefusedInAnOldEpoch(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{1, 0})
		m := x.batch(users(1, 2), int(ids[0]), 1)
		_, ok, err := x.BeginRebuild(context.Background(), x.p, x.epoch, true)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if got := x.claim(m); len(got[0].Rejects) != 1 {
			t.Errorf("verdict %v, want one reject", got)
		}
		if p := x.part(); p.Wanted != 0 {
			t.Errorf("a rebuild of %d is wanted", p.Wanted)
		}
	})
}

func TestClaimCut(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{100, 5})
		first, late, never := x.batch(users(1, 2), int(ids[0]), 1), x.batch(users(3, 4), int(ids[0]), 1), x.batch(users(5, 5), int(ids[0]), 1)
		x.claim(first)
		x.rebuild()
		cut := Verdict{Rejects: []Reject{{0, order.ReasonCut}, {1, order.ReasonCut}}}
		next := x.batch(users(6, 6), int(ids[0]), 1)
		if diff := cmp.Diff([]Verdict{{}, cut, {}}, x.claim(first, late, next)); diff != "" {
			t.Error(diff)
		}
		x.expect(ids[0], 97, map[order.UserID]int64{1: 1, 2: 1, 6: 1})

		noError(t, x.Settle(context.Background(), []Settled{{Partition: x.p, Recorded: x.epoch}}))
		stale := Verdict{Stale: true}
		if diff := cmp.Diff([]Verdict{stale, stale, stale, {}}, x.claim(first, late, never, next)); diff != "" {
			t.Error(diff)
		}
		x.expect(ids[0], 97, nil)
		if p := x.part(); p.Recorded != x.epoch || p.Barrier != x.epoch || p.Wanted != 0 {
			t.Errorf("the partition is %+v", p)
		}
	})
}

func TestClaimAhead(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{100, 5})
		good := x.batch(users(1, 1), int(ids[0]), 1)
		ahead := x.batch(users(2, 2), int(ids[0]), 1)
		ahead.Epoch++
		_, err := x.Claim(context.Background(), x.Home(x.p), []*order.Message{good, ahead})
		if e, ok := errors.AsType[*AheadError](err); !ok || e.Partition != x.p {
			t.Errorf("got %v, want an AheadError", err)
		}
		x.expect(ids[0], 100, map[order.UserID]int64{})
	})
}

func TestClaimTheSameBatchAtOnce(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{1000, 3})
		var messages []*order.Message
		for i := range 10 {
			messages = append(messages, x.batch(users(order.UserID(1+20*i), order.UserID(20*i+20)), int(ids[0]), 1))
		}
		race(8, func(int) {
			for _, m := range messages {
				if v, err := x.Claim(context.Background(), x.Home(x.p), []*order.Message{m}); err != nil || len(v[0].Rejects) > 0 {
					t.Errorf("claim: %v %v", v, err)
				}
			}
		})
		x.expect(ids[0], 800, nil)
	})
}

// Claimers that race for 100 units with 400 buyers sell 100, whatever the interleaving, and no buyer gets too many.
func TestClaimNeverOversells(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{100, 2})
		messages := make([][]*order.Message, 4)
		for c := range messages {
			for range 10 {
				messages[c] = append(messages[c], x.batch(append(users(1, 4), users(order.UserID(100*c+10), order.UserID(100*c+15))...), int(ids[0]), 1))
			}
		}
		var mu sync.Mutex
		accepted := map[order.UserID]int64{}
		race(len(messages), func(c int) {
			for _, m := range messages[c] {
				v, err := x.Claim(context.Background(), x.Home(x.p), []*order.Message{m})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, r := range m.Records {
					accepted[r.User]++
				}
				for _, r := range v[0].Rejects {
					accepted[m.Records[r.Index].User]--
				}
				mu.Unlock()
			}
		})
		var sold int64
		for u, n := range accepted {
			if sold += n; n > 2 {
				t.Errorf("user %d got %d units, the limit is 2", u, n)
			}
			if n == 0 {
				delete(accepted, u)
			}
		}
		if want := int64(4*2 + 4*6*2); sold != want { // every user is offered more than the limit
			t.Errorf("sold %d, want %d", sold, want)
		}
		x.expect(ids[0], 100-sold, accepted)
	})
}

func TestClaimSellsTheLastUnitOnce(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{7, 0})
		messages := make([]*order.Message, 16)
		for i := range messages {
			messages[i] = x.batch(users(order.UserID(i+1), order.UserID(i+1)), int(ids[0]), 1)
		}
		got := make([]int, len(messages))
		race(len(messages), func(i int) {
			v, err := x.Claim(context.Background(), x.Home(x.p), messages[i:i+1])
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = 1 - len(v[0].Rejects)
		})
		sold := 0
		for _, n := range got {
			sold += n
		}
		if sold != 7 {
			t.Errorf("sold %d of 7 units", sold)
		}
		x.expect(ids[0], 0, nil)
	})
}

// race calls f n times at once and waits.
func race(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// The CHECK constraints are the last guard: they refuse what a wrong statement would write.
func TestSchemaRefusesTooMany(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		x, ids := newSale(t, d, [2]int64{3, 2})
		x.claim(x.batch(users(1, 1), int(ids[0]), 2))
		for _, query := range []string{
			"UPDATE offer_stock SET sold = 4", "UPDATE offer_stock SET sold = -1", "UPDATE buyer SET units = 3", "UPDATE buyer SET units = -1",
		} {
			err := x.update(context.Background(), x.Home(x.p), 0, func(t *tx) error {
				_, err := t.exec(query)
				return err
			})
			if !guardRefused(err) {
				t.Errorf("%s: %v, want a refusal by CHECK", query, err)
			}
		}
	})
}
