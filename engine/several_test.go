package engine

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/internal/leader"
)

// second starts another engine on the world's fast stock, queue and store.
func (w *world) second() *world {
	w.t.Helper()
	two := *w
	two.ids = order.NewIDs(nil)
	now := order.MilliOf(time.Now())
	two.ids.Lease(2, now-1000, now+3_600_000)
	two.start(false)
	return &two
}

// together closes the world's engine, which has its fast stock for itself, and starts two that share it.
func together(t *testing.T) (one, two *world) {
	one = newWorld(t)
	check(t, one.engine.Close(context.Background()))
	one.start(false)
	return one, one.second()
}

// openAbove waits until an engine sells under an epoch above e, and returns it.
func (w *world) openAbove(e order.Epoch) (epoch order.Epoch) {
	w.t.Helper()
	w.await("a later epoch", func() bool {
		s := w.part().session.Load()
		if s != nil {
			epoch = s.epoch
		}
		return s != nil && s.epoch > e
	})
	return epoch
}

// What several engines want at once is done once, whoever does it.
func TestSeveralWantOneRebuild(t *testing.T) {
	t.Parallel()
	one, two := together(t)
	o := one.offer(5, 0)
	before := one.part().session.Load().epoch
	begun := func() int64 { return one.engine.Stats().Rebuilds + two.engine.Stats().Rebuilds }
	had := begun()
	for _, w := range []*world{one, two} { // as when both see the wish before either has begun
		raise(&w.part().distrust, uint64(before))
	}
	for range 3 {
		check(t, one.store.WantRebuild(t.Context(), one.flash(), before)) // of the same epoch: a wish of the next is another
	}
	epoch := one.openAbove(before)
	if other := two.openAbove(before); other != epoch {
		t.Errorf("epochs %d and %d", epoch, other)
	}
	// One that still distrusts what the other has opened begins at once.
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n := begun() - had; n != 1 {
			t.Fatalf("%d rebuilds", n)
		}
	}
	one.wantVerdict(one.place(o, 1, "a"), Placed)
	one.agree(o, 1)
}

// A rebuild that another engine has begun is left to it: this one stops to sell the older epoch, and begins a later one
// only when nobody has renewed the claim for five seconds. It relays nothing and publishes no barrier before.
func TestRebuildIsLeftToItsOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	check(t, w.engine.Close(context.Background()))
	w.start(false)
	o := w.offer(5, 0)
	before := w.part().session.Load().epoch
	e, ok, err := w.store.BeginRebuild(t.Context(), w.flash(), before, false)
	check(t, err)
	if !ok {
		t.Fatal("the rebuild has not begun")
	}
	busy, _, err := w.part().readPart(t.Context())
	check(t, err)
	epoch := w.openAbove(before)
	if epoch <= e || epoch < order.Epoch(busy.BusyUntil) { // an epoch is the database's time at which it began, or later
		t.Errorf("epoch %d began while epoch %d was somebody's until %d", epoch, e, busy.BusyUntil)
	}
	for _, m := range w.queue.published() {
		if m.Kind == order.BarrierMessage && m.Partition == w.flash() && m.Epoch == e {
			t.Errorf("the barrier of epoch %d was published by who does not own it", e)
		}
	}
	w.wantVerdict(w.placeSurely(o, 1, "a"), Placed)
	w.agree(o, 1)
}

// leads is a leader.Leader that a test makes say what it wants.
type leads struct {
	leader.Alone
	mu   sync.Mutex
	no   bool
	jobs []string
}

func (l *leads) Leads(_ context.Context, job string, _ time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.no && !slices.Contains(l.jobs, job) {
		l.jobs = append(l.jobs, job)
	}
	return !l.no
}

func (l *leads) say(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.no = !yes
}

// While another engine leads the rebuild none is begun here; when it has gone without having begun, this one does it.
func TestRebuildAsksForTheLead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	check(t, w.engine.Close(context.Background()))
	l := new(leads)
	w.start(false, func(o *Options) { o.Leader = l })
	o := w.offer(5, 0)
	l.say(false)
	had := w.engine.Stats().Rebuilds
	w.loseNow()
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n := w.engine.Stats().Rebuilds - had; n != 0 {
			t.Fatalf("%d rebuilds were begun here, and another engine leads", n)
		}
	}
	l.say(true)
	w.wantVerdict(w.placeSurely(o, 1, "a"), Placed)
	w.agree(o, 1)
	if n := w.engine.Stats().Rebuilds - had; n != 1 || !slices.Contains(l.jobs, "rebuild-1") {
		t.Errorf("%d rebuilds, jobs %v", n, l.jobs)
	}
}
