package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
)

// TestEngines runs two whole servers on one queue, one Redis and the same MySQL shards.
func TestEngines(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	d.run("the same units", d.sameUnits)
	d.run("units come back once", d.unitsComeBack)
	d.run("one rebuild of many wishes", d.manyWishes)
	d.run("losses", d.losses)
	d.run("sleepers of lost stock", func(*testing.T) { d.sleepers(func() { d.lose("") }) })
	if !testing.Short() {
		d.run("sleepers of intact stock", func(*testing.T) { d.sleepers(d.wish) })
	}
	d.run("restarts", d.restarts)
}

// sameUnits lets both servers be asked for the same 1,000 units by the same users with the same keys.
func (d *deployment) sameUnits(t *testing.T) {
	const units, users, keys, limit, hands = 1000, 280, 6, 4, 16
	offer := d.sides[0].offer("flash", units, limit)
	d.known(offer)
	type wish struct {
		user order.UserID
		key  string
	}
	var mu sync.Mutex
	orders := map[wish]map[order.ID]bool{}
	var buyers sync.WaitGroup
	for side := range d.sides {
		for hand := range hands {
			buyers.Go(func() {
				for n := hand; n < users*keys; n += hands {
					w := wish{order.UserID(1 + n%users), fmt.Sprint(n / users)}
					e := d.buy(side, w.user, w.key, line(offer, 1), 1)
					if e.Code >= 300 {
						continue
					}
					mu.Lock()
					if orders[w] == nil {
						orders[w] = map[order.ID]bool{}
					}
					orders[w][e.Order] = true
					mu.Unlock()
				}
			})
		}
	}
	buyers.Wait()
	held := map[order.UserID]int{}
	for w, ids := range orders {
		if held[w.user]++; len(ids) != 1 {
			t.Errorf("user %d, key %s: %d orders", w.user, w.key, len(ids))
		}
	}
	for user, n := range held {
		if n > limit {
			t.Errorf("user %d has %d units, the limit is %d", user, n, limit)
		}
	}
	if len(orders) != units {
		t.Errorf("%d of %d units were sold", len(orders), units)
	}
	for _, s := range d.sides {
		s.remaining(offer, "0")
		if n := s.server.engine.Stats().Verdicts["placed"]; n == 0 {
			t.Error("one of the servers has placed nothing")
		}
	}
	if one, two := d.sides[0].server.lease.lease.Node, d.sides[1].server.lease.lease.Node; one == two {
		t.Errorf("both servers put node %d into their ids", one)
	}
}

// unitsComeBack cancels orders through both servers at once, and lets the rest expire.
func (d *deployment) unitsComeBack(t *testing.T) {
	const units = 120
	offer := d.sides[0].offer("flash", units, 0)
	d.known(offer)
	for _, s := range d.sides {
		tuning := s.server.config.Persist.Tuning
		long := tuning
		tuning.Unpaid = 5 * time.Second
		if err := s.server.persist.Tune(tuning); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.server.persist.Tune(long); err != nil {
				t.Error(err)
			}
		}()
	}
	var buyers sync.WaitGroup
	for user := range order.UserID(units) {
		buyers.Go(func() {
			e := d.buy(int(user), user+1, "back", line(offer, 1), 1)
			if e.Code >= 300 || user%2 == 0 {
				return
			}
			var both sync.WaitGroup
			for _, s := range d.sides {
				both.Go(func() {
					if !await(func() bool {
						a, err := s.try("POST", s.gateway+"/v1/orders/"+e.Order.String()+"/cancel", s.token(user+1), "")
						return err == nil && (a.status == 200 || a.field("code") == "not_cancellable") // it expired before
					}) {
						t.Errorf("order %s cannot be cancelled", e.Order)
					}
				})
			}
			both.Wait()
		})
	}
	buyers.Wait()
	back := func() int64 {
		return d.sides[0].server.lifecycle.Stats().Expired + d.sides[1].server.lifecycle.Stats().Expired
	}
	d.await("the rest to expire", func() bool { return back() >= units/2 })
	for _, s := range d.sides {
		s.remaining(offer, fmt.Sprint(units))
	}
	one, two := d.sides[0].server.lifecycle.Stats().Expired, d.sides[1].server.lifecycle.Stats().Expired
	t.Logf("expired by the servers: %d, %d", one, two)
}

// wish asks for a rebuild of every partition many times at once, through both servers.
func (d *deployment) wish() {
	d.t.Helper()
	var wishes sync.WaitGroup
	for p, epoch := range d.epochs() {
		e, _ := order.ParseID(epoch)
		for n := range 10 {
			wishes.Go(func() {
				if err := d.sides[n%2].server.store.WantRebuild(d.t.Context(), order.Partition(p), order.Epoch(e)); err != nil {
					d.t.Error(err)
				}
			})
		}
	}
	wishes.Wait()
}

// manyWishes: each partition is rebuilt once, whoever wanted it and however often, while both servers sell.
func (d *deployment) manyWishes(t *testing.T) {
	_, stop := d.crowd(d.offers(100_000, 0))
	for range 2 {
		before, opened := d.epochs(), d.sleep.opened()
		d.wish()
		d.open(before)
		if n := d.sleep.opened() - opened; n != len(before) {
			t.Errorf("%d rebuilds of %d partitions", n, len(before))
		}
	}
	stop()
}

// losses takes fast stock away in many ways while both servers sell: each partition is rebuilt once.
func (d *deployment) losses(t *testing.T) {
	of := d.offers(100_000, 0)
	sold, stop := d.crowd(of)
	before := d.epochs()
	ways := []func(){
		func() { d.lose("") },
		func() {
			for p := range before {
				d.lose(fmt.Sprintf("{%d}:fence", p))
			}
		},
		func() {
			for p := range before {
				d.lose(fmt.Sprintf("{%d}:%s", p, []string{"outbox", "idem", before[p] + ":left", before[p] + ":buyers"}[p%4]))
			}
		},
	}
	if testing.Short() {
		ways = ways[:1]
	}
	for _, lose := range ways {
		opened := d.sleep.opened()
		lose()
		before = d.open(before)
		if n := d.sleep.opened() - opened; n != len(before) {
			t.Errorf("%d rebuilds of %d partitions", n, len(before))
		}
		for _, offer := range of {
			had := sold(offer)
			d.await("orders to flow again", func() bool { return sold(offer) > had })
		}
	}
	stop()
}

// sleepers lets whoever rebuilds a partition first sleep behind one of its steps, for longer than its claim lives. The
// other server takes over; the sleeper wakes when it has sold, and does no harm.
func (d *deployment) sleepers(cause func()) {
	of := d.offers(100_000, 2000)
	sold, stop := d.crowd(of)
	steps := []string{"begin", "close", "drain", "barrier", "count", "load"}
	plan := map[order.Partition]string{}
	for p := range of {
		plan[p] = steps[int(p)%len(steps)]
	}
	before := d.epochs()
	wake := d.sleep.begin(plan)
	d.t.Cleanup(wake)
	cause()
	d.await("rebuilders to sleep", func() bool { return len(d.sleep.sleepers()) == len(plan) })
	asleep := d.sleep.sleepers()
	d.await("the other server to sell", func() bool {
		for p, who := range asleep {
			states := d.sides[1-who].server.engine.Ready()
			if s := states[p]; s.State != "open" || fmt.Sprint(s.Epoch) == before[p] {
				return false
			}
		}
		return true
	})
	for _, offer := range of {
		had := sold(offer)
		d.await("orders to flow", func() bool { return sold(offer) > had })
	}
	epochs := d.epochs()
	wake()
	if after := d.open(before); !slices.Equal(after, epochs) {
		d.t.Errorf("epochs %v after the sleepers woke, before %v", after, epochs)
	}
	stop()
}

// restarts: servers that stop, start and join on an intact Redis rebuild nothing, and one alone does the work of both.
func (d *deployment) restarts(t *testing.T) {
	of := d.offers(1000, 5)
	before := d.epochs()
	buy := func(user order.UserID) {
		t.Helper()
		for _, offer := range of {
			first := d.buy(0, user, "r-"+offer, line(offer, 1), 1)
			if again := d.buy(1, user, "r-"+offer, line(offer, 1), 1); first.Code >= 300 || again.Order != first.Order {
				t.Errorf("user %d, offer %s: %v, then %v", user, offer, first, again)
			}
		}
	}
	buy(1)
	for _, i := range []int{0, 1} {
		d.sides[i].stop()
		alone := d.sides[1-i]
		for _, offer := range of { // the queue's consumer is the other server's now, or still
			alone.must(201, "POST", alone.gateway+"/v1/orders?wait=10", alone.token(order.UserID(10+i)), line(offer, 1))
		}
		d.start(i)
	}
	d.sides[0].stop()
	d.sides[1].stop()
	d.start(0)
	d.start(1)
	buy(1)
	buy(2)
	if after := d.epochs(); !slices.Equal(after, before) {
		t.Errorf("epochs %v, before the restarts %v", after, before)
	}
	for i, s := range d.sides {
		if n := s.server.engine.Stats().Rebuilds; n != 0 {
			t.Errorf("server %d has begun %d rebuilds", i, n)
		}
	}
}
