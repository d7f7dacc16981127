package engine

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/queuetest"
	"sluice/engine/stock"
	"sluice/engine/stock/memstock"
)

func TestPlaceIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(10, 0)
	got := w.place(o, 42, "k")
	w.wantVerdict(got, Placed)
	stored := w.stored(got.Answer.Order)
	if stored.Status != order.AwaitingPayment || stored.User != 42 || stored.Key != "k" || stored.Amount != 990 {
		t.Fatalf("stored %+v", stored)
	}
	w.agree(o, 1)
}

// A crowd of 2,000 buyers, each asking twice with the same key, races for 100 units.
func TestCrowd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(100, 1)
	var placed, soldOut, other atomic.Int64
	var wg sync.WaitGroup
	orders := make([]order.ID, 2000)
	for u := range orders {
		wg.Go(func() {
			for range 2 {
				switch got := w.place(o, order.UserID(u+1), "k"); {
				case got.Answer.Verdict == Placed:
					placed.Add(1)
					orders[u] = got.Answer.Order
				case got.Answer.Verdict == Replayed && got.Answer.Order == orders[u] && orders[u] != 0:
				case got.Answer.Verdict == Refused && got.Answer.Code == order.SoldOut:
					soldOut.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if placed.Load() != 100 || soldOut.Load() != 3800 || other.Load() != 0 {
		t.Fatalf("%d placed, %d sold out, %d other answers; want 100, 3800, 0", placed.Load(), soldOut.Load(), other.Load())
	}
	w.agree(o, 100)
	for _, id := range orders {
		if id != 0 && w.stored(id).Status != order.AwaitingPayment {
			t.Fatalf("order %s is not live", id)
		}
	}
	st := w.engine.Stats()
	var sum int64
	for _, n := range st.Verdicts {
		sum += n
	}
	if st.In != 4000 || sum != 4000 {
		t.Fatalf("%d in, %d answered; want 4000", st.In, sum)
	}
}

// The cut: an engine that sleeps between reserve and publish for longer than a rebuild publishes into a later epoch. Its
// order must be answered Unknown, its batch be rejected whole, and no unit be lost.
func TestCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(1, 0)
	reserved, release := make(chan *order.Message, 1), make(chan struct{})
	var once sync.Once
	w.queue.onPublish(func(m *order.Message) error {
		once.Do(func() {
			reserved <- m
			<-release
		})
		return nil
	})
	first := w.placeLater(o, 1, "a")
	batch := <-reserved
	w.loseNow()
	w.await("a later epoch", func() bool { s := w.part().session.Load(); return s != nil && s.epoch > batch.Epoch })
	close(release)
	w.wantVerdict(<-first, Unknown)
	w.wantVerdict(w.place(o, 2, "b"), Placed)
	w.agree(o, 1)
	// The batch came behind a barrier that was settled already: then not even a rejected row is written.
	late, err := w.store.Order(t.Context(), batch.Records[0].ID)
	check(t, err)
	if late != nil && late.Status.Live() {
		t.Fatalf("the late order is %s", late.Status)
	}
}

// A loss of fast stock while a publisher is under way: the rebuild waits D, so an order that is answered as placed is
// stored and not cut off.
func TestRebuildWaitsForPublishers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(1, 0)
	var once sync.Once
	w.queue.onPublish(func(*order.Message) error {
		once.Do(func() {
			w.loseNow()
			time.Sleep(deadline * 6 / 10) // the publisher is slow, within D
		})
		return nil
	})
	got := w.place(o, 1, "a")
	w.wantVerdict(got, Placed)
	if o := w.stored(got.Answer.Order); o.Status != order.AwaitingPayment {
		t.Fatalf("an order answered as placed is %s (%s)", o.Status, o.Reason)
	}
	w.agree(o, 1)
}

// A reserve that was executed and not answered is repeated with the same ids: one order, one unit.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	var calls atomic.Int64
	w.stock.onReserve(func(call *stock.ReserveCall) (*stock.Reserved, error) {
		res, err := w.mem.Reserve(context.Background(), call)
		if calls.Add(1) == 1 {
			return nil, errPlanted
		}
		return res, err
	})
	got := w.place(o, 1, "")
	w.wantVerdict(got, Placed)
	if calls.Load() != 2 {
		t.Fatalf("%d calls", calls.Load())
	}
	w.stored(got.Answer.Order)
	w.agree(o, 1)
}

// The same, but fast stock is lost before the repeat: the ids are not used again, the answer is Unknown, and nothing is
// taken in the new epoch.
func TestLostAnswerThenLostStock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	var seen sync.Map // ids that were sent
	var again atomic.Int64
	var first sync.Once
	w.stock.onReserve(func(call *stock.ReserveCall) (*stock.Reserved, error) {
		lost := false
		first.Do(func() {
			lost = true
			seen.Store(call.Requests[0].Order, true)
			_, _ = w.mem.Reserve(context.Background(), call)
			w.mem.Lose(w.flash(), memstock.All)
		})
		if lost {
			return nil, errPlanted
		}
		res, err := w.mem.Reserve(context.Background(), call)
		if _, sent := seen.Load(call.Requests[0].Order); sent && err == nil {
			again.Add(1)
		}
		return res, err
	})
	w.wantVerdict(w.place(o, 1, "a"), Unknown)
	w.awaitOpen()
	w.wantVerdict(w.place(o, 2, "b"), Placed)
	w.agree(o, 1)
	if again.Load() != 0 {
		t.Fatal("an id whose first reserve was not answered was reserved in a later epoch")
	}
}

// A repeat of an order whose batch is still in the outbox is answered only after that batch is in the queue.
func TestRepeatPublishesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	tuning := *w.engine.tuning()
	tuning.RelayAfter = time.Hour // the relay must not help
	check(t, w.engine.Tune(tuning))
	w.queue.onPublish(func(*order.Message) error { return errPlanted })
	first := w.place(o, 1, "a")
	w.wantVerdict(first, Unknown)
	w.wantVerdict(w.place(o, 1, "a"), Unknown)
	w.queue.onPublish(nil)
	before := len(w.queue.published())
	again := w.place(o, 1, "a")
	w.wantVerdict(again, Replayed)
	inQueue := false
	for _, m := range w.queue.published()[before:] {
		inQueue = inQueue || m.Kind == order.BatchMessage && m.Records[0].ID == again.Answer.Order
	}
	if !inQueue {
		t.Fatal("answered as accepted, but its batch is not in the queue")
	}
	w.stored(again.Answer.Order)
	w.agree(o, 1)
}

// The relay publishes what its engine could not.
func TestRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	w.queue.onPublish(func(*order.Message) error { return errPlanted })
	w.wantVerdict(w.place(o, 1, "a"), Unknown)
	w.queue.onPublish(nil)
	w.agree(o, 1)
}

// A refusal of a key that a lossy load has dropped is looked up first: the order is found, or there is none, or nobody
// knows yet.
func TestLookBeforeRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(1, 0)
	first := w.place(o, 1, "a")
	w.wantVerdict(first, Placed)
	w.stored(first.Answer.Order)
	w.forgetKeys()
	again := w.place(o, 1, "a")
	w.wantVerdict(again, Replayed)
	if again.Answer.Order != first.Answer.Order {
		t.Fatalf("found order %s, want %s", again.Answer.Order, first.Answer.Order)
	}
	if got := w.place(o, 2, "b"); got.Answer.Verdict != Refused || got.Answer.Code != order.SoldOut {
		t.Fatalf("a key without an order: %s %s", got.Answer.Verdict, got.Answer.Code)
	}
	// As long as rows may be on their way, nobody can say that there is no order.
	s := w.part().session.Load()
	unsure := &session{epoch: s.epoch, keysSince: stock.KeysSince{Epoch: s.epoch + 1, At: s.keysSince.At, Logged: s.keysSince.Logged}}
	unsure.applied.Store(s.applied.Load())
	w.part().session.Store(unsure)
	w.wantVerdict(w.place(o, 2, "b"), Unknown)
}

// A heartbeat carries the epoch of the fence that the engine sells under, also when `part` has a newer one already.
func TestHeartbeatCarriesTheFencesEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	w.wantVerdict(w.place(o, 1, "a"), Placed)
	p, s := w.part(), w.part().session.Load()
	part := *p.part.Load()
	part.Epoch += 1000
	before := len(w.queue.published())
	p.heartbeat(t.Context(), s, &part)
	for _, m := range w.queue.published()[before:] {
		if m.Kind == order.BarrierMessage && m.Epoch > s.epoch {
			t.Fatalf("a heartbeat began epoch %d, the fence is open under %d", m.Epoch, s.epoch)
		}
	}
	w.await("a heartbeat", func() bool {
		for _, m := range w.queue.published() {
			if m.Kind == order.BarrierMessage && m.At > s.since {
				return true
			}
		}
		return false
	})
}

// Each part of fast stock lost alone: nothing is sold until the rebuild is done, and it is done by itself.
func TestEveryLossHeals(t *testing.T) {
	t.Parallel()
	for _, loss := range []memstock.Loss{memstock.All, memstock.Fence, memstock.Identity, memstock.Left, memstock.Offers,
		memstock.Buyers, memstock.Idem, memstock.Outbox} {
		t.Run(string(loss), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.offer(3, 2)
			w.wantVerdict(w.place(o, 1, "a"), Placed)
			w.mem.Lose(w.flash(), loss)
			w.wantVerdict(w.placeSurely(o, 1, "b"), Placed)
			if got := w.placeSurely(o, 1, "c"); got.Answer.Code != order.OverLimit {
				t.Fatalf("a third unit: %s %s, want over_limit", got.Answer.Verdict, got.Answer.Code)
			}
			w.wantVerdict(w.place(o, 2, "d"), Placed)
			if got := w.placeSurely(o, 3, "e"); got.Answer.Code != order.SoldOut {
				t.Fatalf("a fourth unit: %s %s, want sold_out", got.Answer.Verdict, got.Answer.Code)
			}
			w.agree(o, 3)
		})
	}
}

// An intact fast stock is relayed, not lost: keys and orders that never reached the queue survive a requested rebuild.
func TestIntactRebuildKeepsKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	w.queue.onPublish(func(*order.Message) error { return errPlanted })
	w.wantVerdict(w.place(o, 1, "a"), Unknown)
	w.queue.onPublish(nil)
	before := w.part().session.Load()
	check(t, w.engine.RequestRebuild(t.Context(), w.flash()))
	w.await("a new epoch", func() bool { s := w.part().session.Load(); return s != nil && s.epoch > before.epoch })
	if since := w.part().session.Load().keysSince; since != before.keysSince {
		t.Fatalf("an intact rebuild dropped the keys: %+v", since)
	}
	w.wantVerdict(w.place(o, 1, "a"), Replayed)
	w.agree(o, 1)
}

// An engine that starts on a fast stock that another one keeps open adopts it.
func TestAdopt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	w.wantVerdict(w.place(o, 1, "a"), Placed)
	epoch := w.part().session.Load().epoch
	check(t, w.engine.Close(context.Background()))
	w.start(false)
	if s := w.part().session.Load(); s.epoch != epoch || w.engine.Stats().Rebuilds != 0 {
		t.Fatalf("epoch %d after %d rebuilds, want %d adopted", s.epoch, w.engine.Stats().Rebuilds, epoch)
	}
	w.wantVerdict(w.place(w.engine.Offer(o.ID), 1, "a"), Replayed)
	w.agree(o, 1)
}

// Two engines on one fast stock, and a loss: both recover, one rebuild brings the epoch, both sell, nothing is oversold.
func TestTwoEnginesRebuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(50, 0)
	one := w.engine
	w.start(false)
	two := w.engine
	w.mem.Lose(w.flash(), memstock.All)
	var placed atomic.Int64
	var wg sync.WaitGroup
	for i, e := range []*Engine{one, two} {
		for n := range 100 {
			wg.Go(func() {
				side := &world{t: t, engine: e}
				key := strconv.Itoa(n)
				for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
					got := side.place(o, order.UserID(1+i*1000+n), key)
					if v := got.Answer.Verdict; v != NotReady && v != Unknown {
						if v == Placed {
							placed.Add(1)
						}
						return
					}
				}
				t.Error("no answer in 15 s")
			})
		}
	}
	wg.Wait()
	if placed.Load() != 50 {
		t.Fatalf("%d placed of 50 units", placed.Load())
	}
	w.agree(o, 50)
}

// A rebuilder that dies at any step leaves a partition that the next one opens.
func TestRebuilderDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	w.wantVerdict(w.place(o, 1, "a"), Placed)
	var deaths atomic.Int64
	w.stock.onShut(func() {
		if deaths.Add(1) <= 3 {
			w.mem.Lose(w.flash(), memstock.Fence) // the ground goes from under it: it must give up
		}
	})
	w.mem.Lose(w.flash(), memstock.All)
	w.await("recovery", func() bool { return deaths.Load() > 3 && w.part().session.Load() != nil })
	w.wantVerdict(w.place(o, 2, "b"), Placed)
	w.agree(o, 2)
}

// Units that come back clear the sold-out flag; an offer without units is refused without a reserve.
func TestSoldOutFlag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(1, 0)
	first := w.place(o, 1, "a")
	w.wantVerdict(first, Placed)
	if !o.SoldOut() || o.Left() != 0 {
		t.Fatal("not flagged after the last unit")
	}
	var reserves atomic.Int64
	w.stock.onReserve(func(call *stock.ReserveCall) (*stock.Reserved, error) {
		reserves.Add(1)
		return w.mem.Reserve(context.Background(), call)
	})
	if got := w.place(o, 2, ""); got.Answer.Code != order.SoldOut || reserves.Load() != 0 {
		t.Fatalf("%s %s after %d reserves", got.Answer.Verdict, got.Answer.Code, reserves.Load())
	}
	if got := w.place(o, 1, "a"); got.Answer.Verdict != Replayed || got.Answer.Order != first.Answer.Order {
		t.Fatalf("retry of the accepted order: %s", got.Answer.Verdict)
	}
	total := int64(3)
	_, _, err := w.store.ChangeOffer(t.Context(), o.ID, storeChange(&total))
	check(t, err)
	w.await("units", func() bool { return !w.engine.Offer(o.ID).SoldOut() })
	w.wantVerdict(w.place(o, 2, "b"), Placed)
	w.agree(o, 2)
}

// Drift at rest is found and healed.
func TestDriftHeals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(10, 0)
	tuned := *w.engine.tuning()
	tuned.DriftEvery = time.Second
	check(t, w.engine.Tune(tuned))
	w.wantVerdict(w.place(o, 1, "a"), Placed)
	w.agree(o, 1)
	s := w.part().session.Load()
	// A unit appears in fast stock that MySQL does not know, as a number that the log has not reached yet.
	_, err := w.mem.Apply(t.Context(), w.flash(), s.epoch, []order.LogRow{{N: s.applied.Load() + 1,
		Items: []order.LogItem{{Op: order.OpRaise, Offer: o.ID, Units: 1}}}})
	check(t, err)
	_, _, err = w.store.ChangeOffer(t.Context(), o.ID, storeTitle("another")) // the row of that number
	check(t, err)
	w.await("drift", func() bool { return w.engine.Stats().Drift > 0 })
	w.agree(o, 1)
}

// What cannot be sold in time is answered NotReady, and costs nothing.
func TestDeadlineWhileNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(5, 0)
	w.stock.onReserve(func(call *stock.ReserveCall) (*stock.Reserved, error) {
		return nil, &stock.NotExecutedError{Err: errors.New("busy")}
	})
	tuned := *w.engine.tuning()
	tuned.RequestDeadline = 100 * time.Millisecond
	check(t, w.engine.Tune(tuned))
	w.wantVerdict(w.place(o, 1, "a"), NotReady)
	w.stock.onReserve(nil)
	w.wantVerdict(w.place(o, 1, "a"), Placed)
	w.agree(o, 1)
}

// Close answers everything that it took.
func TestCloseAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(100_000, 0)
	var answered, placed atomic.Int64
	var wg sync.WaitGroup
	for u := range 200 {
		wg.Go(func() {
			for {
				got := w.place(o, order.UserID(u+1), "")
				answered.Add(1)
				if got.Answer.Verdict != Placed {
					return
				}
				placed.Add(1)
			}
		})
	}
	w.await("a rush", func() bool { return placed.Load() > 500 })
	check(t, w.engine.Close(context.Background()))
	wg.Wait()
	st := w.engine.Stats()
	if st.In != answered.Load() || st.Verdicts["placed"] != placed.Load() {
		t.Fatalf("%d in, %d answered; %d placed, %d seen", st.In, answered.Load(), st.Verdicts["placed"], placed.Load())
	}
	w.await("every order", func() bool { return w.persist.Stats().Stored == placed.Load() })
}

// A queue that fails before and after storing, repeats and replays, as the contract allows: buyers who try again with
// their key get exactly the units there are, each order once.
func TestChaoticQueue(t *testing.T) {
	t.Parallel()
	var chaos *queuetest.Chaos
	w := newWorld(t, func(q queue.Queue) queue.Queue {
		chaos = queuetest.NewChaos(q, queuetest.Stormy(7))
		return chaos
	})
	o := w.offer(150, 2)
	orders := make([]map[order.ID]bool, 120)
	var wg sync.WaitGroup
	for u := range orders {
		orders[u] = map[order.ID]bool{}
		wg.Go(func() {
			for _, key := range []string{"a", "b", "c"} {
				if got := w.placeSurely(o, order.UserID(u+1), key); got.Answer.Verdict != Refused {
					orders[u][got.Answer.Order] = true
				}
			}
		})
	}
	wg.Wait()
	chaos.Calm()
	sold := 0
	for u := range orders {
		for id := range orders[u] {
			sold++
			if got := w.stored(id); got.Status != order.AwaitingPayment {
				t.Errorf("order %s of user %d is %s (%s)", id, u+1, got.Status, got.Reason)
			}
		}
		if len(orders[u]) > 2 {
			t.Errorf("user %d has %d orders of an offer with limit 2", u+1, len(orders[u]))
		}
	}
	if sold != 150 {
		t.Errorf("%d orders, 150 units", sold)
	}
	w.agree(o, 150)
}

// A full intake refuses at once.
func TestOverloaded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(100, 0)
	tuned := *w.engine.tuning()
	tuned.WaitingMax = 1
	check(t, w.engine.Tune(tuned))
	release, entered := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.stock.onReserve(func(call *stock.ReserveCall) (*stock.Reserved, error) {
		once.Do(func() { close(entered) })
		<-release
		return w.mem.Reserve(context.Background(), call)
	})
	first := w.placeLater(o, 1, "a")
	<-entered
	second := w.placeLater(o, 2, "b")
	w.await("one that waits", func() bool { n, _ := w.part().intake.len(); return n == 1 })
	w.wantVerdict(w.place(o, 3, "c"), Overloaded)
	close(release)
	w.wantVerdict(<-first, Placed)
	w.wantVerdict(<-second, Placed)
	w.agree(o, 2)
}
