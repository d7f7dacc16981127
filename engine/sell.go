package engine

import (
	"context"
	"errors"
	"runtime"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/internal/crash"
	"sluice/internal/tracing"
)

// flight is one seller: the goroutine that carries a partition's batches, one at a time. Its slices are reused from
// batch to batch.
type flight struct {
	p        *partition
	number   int
	crowded  bool // the last batch had several tickets
	tickets  []*Ticket
	call     stock.ReserveCall
	records  []byte           // of the batch being published
	queued   []byte           // its message
	accepted int              // its orders
	parents  []tracing.Parent // of its requests that are traced
}

// inFlightMax bounds the flights of a partition.
const inFlightMax = 8

// fly starts flights until there are as many as the tuning says. Those that are too many end by themselves.
func (p *partition) fly() {
	p.flightsMu.Lock()
	defer p.flightsMu.Unlock()
	for n := 0; n < p.e.tuning().InFlight && !p.landing; n++ {
		if !p.flights[n] {
			p.flights[n] = true
			p.e.sellers.Go((&flight{p: p, number: n}).run)
		}
	}
}

// land closes the intake; the flights end with what waits in it.
func (p *partition) land() {
	p.flightsMu.Lock()
	defer p.flightsMu.Unlock()
	p.landing = true
	p.intake.close()
}

// tooMany ends the flight if there are more than the tuning says.
func (f *flight) tooMany() bool {
	p := f.p
	p.flightsMu.Lock()
	defer p.flightsMu.Unlock()
	if p.landing || f.number < p.e.tuning().InFlight {
		return false
	}
	p.flights[f.number] = false
	return true
}

// run sells until the intake is closed and empty.
func (f *flight) run() {
	p := f.p
	for range p.intake.wake {
		if f.number > 0 && f.tooMany() {
			p.intake.signal() // for the other flights
			return
		}
		for {
			n, over := p.intake.len()
			if over {
				p.intake.signal() // for the other flights
				return
			}
			if n == 0 {
				break
			}
			s := p.session.Load()
			if s == nil {
				p.e.stats.expired.Add(int64(p.intake.expire(time.Now())))
				p.awaitOpen(10 * time.Millisecond)
				continue
			}
			// Those who are about to ask join this batch: a yield costs less than a batch of their own. Where there is one
			// at a time, nobody is, and it would have to wait for a core once more.
			if n > 1 || f.crowded {
				runtime.Gosched()
			}
			f.tickets = p.intake.take(f.tickets[:0], p.e.tuning().BatchOrdersMax)
			f.crowded = len(f.tickets) > 1
			f.sell(s)
			clear(f.tickets)
		}
	}
}

// awaitOpen returns when the partition opens, or after d.
func (p *partition) awaitOpen(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.opened:
	case <-timer.C:
	}
}

// sell carries f.tickets through one batch under session s.
func (f *flight) sell(s *session) {
	p := f.p
	f.dropUnsellable(s, time.Now())
	if len(f.tickets) == 0 {
		return
	}
	f.call = stock.ReserveCall{Partition: p.number, Epoch: s.epoch, Requests: f.call.Requests[:0],
		Confirmed: p.takeConfirmed(f.call.Confirmed[:0])}
	for _, t := range f.tickets {
		f.call.Requests = append(f.call.Requests, t.request())
	}
	began, res, err := f.reserve(s)
	if err != nil {
		p.keepConfirmed(f.call.Confirmed)
		f.notReserved(s, err)
		return
	}
	if len(res.Outcomes) != len(f.tickets) {
		panic("BUG: reserve answered another number of requests")
	}
	crash.At("reserve")
	p.reserved(s, res)
	f.finish(s, began, res)
}

// dropUnsellable answers the tickets that are too late, or whose offer this epoch does not have yet.
func (f *flight) dropUnsellable(s *session, now time.Time) {
	kept := f.tickets[:0]
	applied := s.applied.Load()
	for _, t := range f.tickets {
		t.Answer.Queue = now.Sub(t.entered)
		if now.After(t.Deadline) || !f.p.e.createdBy(t, applied) {
			t.answer(NotReady)
			continue
		}
		kept = append(kept, t)
	}
	f.tickets = kept
}

// createdBy tells whether fast stock that has applied the log up to n knows every offer of the ticket.
func (e *Engine) createdBy(t *Ticket, n uint64) bool {
	for _, line := range t.Lines {
		if o := e.Offer(line.Offer); o == nil || o.Created > n {
			return false
		}
	}
	return true
}

// errOutcomeUnknown says that a reserve was sent and its effect is not known, and will not be.
var errOutcomeUnknown = errors.New("the reserve's outcome is unknown")

// reserve calls fast stock; after an unknown outcome again and again, with the same ids, keys and epoch, until D has
// passed. began is the start of the call that answered. An error for which stock.NotExecuted is true means that no call
// had an effect; errOutcomeUnknown means that one may have had.
func (f *flight) reserve(s *session) (began stamp, res *stock.Reserved, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.p.e.opts.Deadline)
	defer cancel()
	first := now()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		repeat := began != (stamp{})
		began = now()
		res, err = f.p.e.stock.Reserve(ctx, &f.call)
		if err == nil {
			return began, res, nil
		}
		if !repeat && stock.NotExecuted(err) {
			return began, nil, err
		}
		var notReady *stock.NotReady
		if errors.As(err, &notReady) || first.elapsed() > f.p.e.opts.Deadline || ctx.Err() != nil {
			return began, nil, errors.Join(errOutcomeUnknown, err)
		}
		f.p.e.stats.reserveRepeats.Add(1)
		time.Sleep(pause)
	}
}

// notReserved deals with a batch of which nothing was answered.
func (f *flight) notReserved(s *session, err error) {
	p := f.p
	if errors.Is(err, errOutcomeUnknown) {
		p.e.log.Warn("reserve without answer", "partition", p.number, "orders", len(f.tickets), "error", err)
		for _, t := range f.tickets {
			t.answer(Unknown)
		}
		p.suspect(s, err)
		return
	}
	p.intake.putBack(f.tickets)
	var notReady *stock.NotReady
	if errors.As(err, &notReady) {
		p.suspect(s, err)
		return
	}
	p.e.log.Warn("reserve not executed", "partition", p.number, "orders", len(f.tickets), "error", err)
	p.e.stats.expired.Add(int64(p.intake.expire(time.Now())))
	time.Sleep(20 * time.Millisecond) // one place, bounded by the deadlines of those who wait
}

// finish answers what is refused at once, publishes what must be in the queue, and answers that.
func (f *flight) finish(s *session, began stamp, res *stock.Reserved) {
	reserved := began.elapsed()
	f.p.e.stats.reserve.AddDuration(reserved, 1)
	f.noteParents()
	waiting := f.tickets[:0]
	var older []order.BatchID
	for i, t := range f.tickets {
		o := &res.Outcomes[i]
		t.Answer.Reserve = reserved
		switch {
		case o.Code == order.Accepted, o.Code == order.Repeated && o.Outboxed:
			if o.Batch != res.Batch {
				older = append(older, o.Batch)
			}
			fallthrough
		case o.Code == order.Repeated:
			t.Answer.Order = o.Order
			waiting = append(waiting, t)
		case f.p.mustLook(s, t, o):
			f.p.e.lookKey(t, s, o)
		default:
			t.refuse(o)
		}
	}
	f.tickets = waiting
	if len(waiting) == 0 {
		return
	}
	started := time.Now()
	err := f.publishAll(s, res, older)
	published := time.Since(started)
	f.p.e.stats.publish.AddDuration(published, 1)
	verdictOf := func(t *Ticket) Verdict {
		if t.Answer.Order == t.Record.ID {
			return Placed
		}
		return Replayed
	}
	if err != nil || began.elapsed() > f.p.e.opts.Deadline {
		verdictOf = func(*Ticket) Verdict { return Unknown }
	}
	for _, t := range waiting {
		t.Answer.Publish = published
		t.answer(verdictOf(t))
	}
	f.trace(&placedBatch{id: res.Batch, epoch: s.epoch, began: time.Time(began), started: started, reserve: reserved,
		publish: published, err: err})
}

// stamp is a moment on both clocks.
type stamp time.Time

func now() stamp { return stamp(time.Now()) }

// elapsed is the time since, by the monotonic or the wall clock, whichever says more: a machine that slept, or a clock
// that was set, must not make D longer.
func (s stamp) elapsed() time.Duration {
	began, now := time.Time(s), time.Now()
	return max(now.Sub(began), now.Round(0).Sub(began.Round(0)))
}
