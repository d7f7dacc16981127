package engine

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock/redisstock"
	"sluice/internal/redistest"
)

// redisWorld is two whole engines on one store, one queue and one Redis.
type redisWorld struct {
	*world
	opts    redisstock.Options
	engines [2]*Engine
	offer   *Offer
	next    atomic.Uint64 // users
	mu      sync.Mutex
	placed  map[order.UserID]order.ID // what they were told
}

const redisDeadline = 500 * time.Millisecond // D: a rebuild after a loss waits for it

func newRedisWorld(t *testing.T, o redisstock.Options) *redisWorld {
	t.Helper()
	w := &redisWorld{world: newPath(t, redisDeadline), opts: o, placed: map[order.UserID]order.ID{}}
	w.opts.Partitions = w.store.Partitions()
	w.opts.DialTimeout, w.opts.CallTimeout = 400*time.Millisecond, 400*time.Millisecond
	st, err := redisstock.Open(w.opts)
	check(t, err)
	t.Cleanup(func() { _ = st.Close() })
	w.stock = &faultyStock{Stock: st}
	w.startBoth()
	w.offer = w.world.offer(100_000, 1)
	w.awaitOffer()
	return w
}

// awaitOffer waits until both engines know the offer.
func (w *redisWorld) awaitOffer() {
	w.t.Helper()
	w.await("the offer", func() bool { return w.engines[0].Offer(w.offer.ID) != nil && w.engines[1].Offer(w.offer.ID) != nil })
	w.offer = w.engine.Offer(w.offer.ID)
}

// startBoth starts two engines at once, each with its own connections and ids, and waits until both have opened all.
func (w *redisWorld) startBoth() {
	w.t.Helper()
	for i := range w.engines {
		st, err := redisstock.Open(w.opts)
		check(w.t, err)
		w.t.Cleanup(func() { _ = st.Close() })
		o := DefaultOptions()
		o.Partitions, o.Deadline = w.store.Partitions(), redisDeadline
		o.Tuning.RelayAfter, o.Tuning.InFlight = time.Second, 2
		ids, now := order.NewIDs(nil), order.MilliOf(time.Now())
		ids.Lease(uint8(rand.IntN(100)), now-1000, now+3_600_000)
		w.engines[i] = New(o, st, w.queue, w.store, ids, slog.New(slog.NewTextHandler(w.told, nil)))
		w.t.Cleanup(func() { _ = w.engines[i].Close(context.Background()) })
	}
	var wg sync.WaitGroup
	for _, e := range w.engines {
		wg.Go(func() {
			if err := e.Start(w.t.Context()); err != nil {
				w.t.Error(err)
			}
		})
	}
	wg.Wait()
	w.engine = w.engines[0]
	w.awaitEpochs(0)
}

// rebuilds is how many were begun by both engines.
func (w *redisWorld) rebuilds() int64 {
	return w.engines[0].Stats().Rebuilds + w.engines[1].Stats().Rebuilds
}

// epoch is the highest under which a partition is sold.
func (w *redisWorld) epoch() (highest order.Epoch) {
	for _, e := range w.engines {
		for _, p := range e.partitions {
			if s := p.session.Load(); s != nil {
				highest = max(highest, s.epoch)
			}
		}
	}
	return highest
}

// awaitEpochs waits until both engines sell every partition under the same epoch, later than before.
func (w *redisWorld) awaitEpochs(before order.Epoch) {
	w.t.Helper()
	w.await("a later epoch", func() bool {
		for i := range w.engines[0].partitions {
			a, b := w.engines[0].partitions[i].session.Load(), w.engines[1].partitions[i].session.Load()
			if a == nil || b == nil || a.epoch != b.epoch || a.epoch <= before {
				return false
			}
		}
		return true
	})
}

// buy lets a new user buy one unit, on either engine, as a client does: with the same key until the answer is final.
func (w *redisWorld) buy() {
	user := order.UserID(w.next.Add(1))
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		e := w.engines[rand.IntN(2)]
		switch got := placeOn(e, w.offer, user, "k"); got.Answer.Verdict {
		case Placed, Replayed:
			w.mu.Lock()
			w.placed[user] = got.Answer.Order
			w.mu.Unlock()
			return
		case NotReady, Unknown:
		default:
			w.t.Errorf("user %d is told %s (%s)", user, got.Answer.Verdict, got.Answer.Code)
			return
		}
	}
	w.t.Errorf("user %d got no answer in a minute", user)
}

// buying lets users come one after the other until the function that it returns is called.
func (w *redisWorld) buying() (end func()) {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(w.t.Context())
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				w.buy()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// settled demands that everybody who was told an order has exactly one, and that the units agree.
func (w *redisWorld) settled() {
	w.t.Helper()
	for user, id := range w.placed {
		o := w.stored(id)
		if o.Status == order.Rejected && o.Reason == order.ReasonDuplicate { // a repeat after the keys were lost
			o = w.stored(o.DuplicateOf)
		}
		if o.Status != order.AwaitingPayment || o.User != user {
			w.t.Errorf("user %d was told order %d; it is %s (%s)", user, id, o.Status, o.Reason)
		}
	}
	w.agree(w.offer, int64(len(w.placed)))
}

// TestRedisEvents: whatever happens to Redis while two engines sell, one of them rebuilds, once, and both go on. Nobody
// who was told an order loses it, and no unit is sold twice or lost.
func TestRedisEvents(t *testing.T) {
	t.Parallel()
	for i, event := range redistest.Events() {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(event.Name, func(t *testing.T) {
			t.Parallel()
			site := event.Site(t)
			w := newRedisWorld(t, onRedis(site.Front.Addr, site.Master.Password))
			w.throughEvent(func() { event.Before(site) }, func() { event.Happen(site) })
		})
	}
}

func onRedis(addr, password string) redisstock.Options {
	o := redisstock.Defaults()
	o.Addrs, o.Credentials = []string{addr}, func() (string, string) { return "", password }
	return o
}

// throughEvent sells before, during and after what happens, and demands one rebuild of each partition.
func (w *redisWorld) throughEvent(before, happen func()) {
	w.t.Helper()
	end := w.buying()
	w.buyers(5)
	before()
	w.buyers(5)
	epoch, rebuilds := w.epoch(), w.rebuilds()
	happen()
	w.awaitEpochs(epoch)
	w.buyers(5)
	end()
	w.settled()
	if n := w.rebuilds() - rebuilds; n != int64(w.store.Partitions().Count()) {
		w.t.Errorf("%d rebuilds of %d partitions\n%s", n, w.store.Partitions().Count(), w.told)
	}
}

// buyers waits until n more have their order.
func (w *redisWorld) buyers(n int) {
	w.t.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.placed)
	}
	n += count()
	w.await("buyers", func() bool { return count() >= n })
}

// Engines that start on an intact Redis go on where others were: nothing is rebuilt, and keys are known.
func TestRedisAdopted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	w := newRedisWorld(t, onRedis(server.Addr, server.Password))
	if n := w.rebuilds(); n != 2 {
		t.Errorf("%d rebuilds of 2 partitions of an empty Redis by two engines", n)
	}
	w.buy()
	epoch := w.epoch()
	for _, e := range w.engines {
		check(t, e.Close(context.Background()))
	}
	w.startBoth()
	w.awaitOffer()
	if n := w.rebuilds(); n != 0 || w.epoch() != epoch {
		t.Errorf("%d rebuilds, epoch %d after %d", n, w.epoch(), epoch)
	}
	w.wantVerdict(w.place(w.offer, 1, "k"), Replayed)
	w.buy()
	w.settled()
}

// Flash and normal offers may lie on two servers. When one is lost the other sells on under its epoch.
func TestRedisPerKind(t *testing.T) {
	t.Parallel()
	normal, flash := redistest.Start(t), redistest.Start(t)
	flash.Do("CONFIG", "SET", "requirepass", normal.Password)
	flash.Password = normal.Password
	o := onRedis(normal.Addr, normal.Password)
	o.FlashAddrs = []string{flash.Addr}
	w := newRedisWorld(t, o)
	w.buy()
	other := w.store.Partitions().Each(order.Normal)[0]
	before, epoch, rebuilds := w.engine.partitions[other].session.Load(), w.part().session.Load().epoch, w.rebuilds()
	flash.Kill()
	flash.Start()
	w.await("a later epoch", func() bool { s := w.part().session.Load(); return s != nil && s.epoch > epoch })
	w.buy()
	w.settled()
	if after := w.engine.partitions[other].session.Load(); after != before {
		t.Error("the normal partition was disturbed")
	}
	if n := w.rebuilds() - rebuilds; n != 1 {
		t.Errorf("%d rebuilds of one partition", n)
	}
}

// A slot moves to another node, and a master dies, while both partitions are sold.
func TestRedisClusterEvents(t *testing.T) {
	t.Parallel()
	nodes := redistest.Cluster(t, 3)
	o := onRedis(nodes[0].Addr, nodes[0].Password)
	o.Cluster = true
	for _, n := range nodes[1:] {
		o.Addrs = append(o.Addrs, n.Addr)
	}
	w := newRedisWorld(t, o)
	end := w.buying()
	key := o.Name + ":{1}:fence"
	rebuilds := w.rebuilds()
	through := func(what string, happen func()) {
		epoch := w.epochOf(1)
		happen()
		w.await("an epoch behind "+what, func() bool { return w.epochOf(1) > epoch })
		w.buyers(5)
	}
	through("a slot that moved", func() { redistest.MoveSlot(nodes, key, func(int) {}) })
	through("a master's end", func() {
		owner, _ := redistest.Owner(nodes, key)
		owner.Kill()
	})
	end()
	w.settled()
	if n := w.rebuilds() - rebuilds; n < 2 || n > 3 { // 3: the master that died had the other partition too
		t.Errorf("%d rebuilds\n%s", n, w.told)
	}
}

// epochOf is the epoch under which both engines sell a partition, 0 if they do not.
func (w *redisWorld) epochOf(p order.Partition) order.Epoch {
	a, b := w.engines[0].partitions[p].session.Load(), w.engines[1].partitions[p].session.Load()
	if a == nil || b == nil || a.epoch != b.epoch {
		return 0
	}
	return a.epoch
}
