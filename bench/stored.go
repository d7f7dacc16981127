package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sluice/engine/order"
)

// sample is how many orders were stored, or units left, at a moment.
type sample struct {
	at     time.Time
	stored int64
}

// watch polls how many orders the server has stored: slowly while load runs, fast afterwards. A moment is taken when the
// answer has come, so an order counts as stored a little too late, never too early.
type watch struct {
	server  *server
	cancel  context.CancelFunc
	running sync.WaitGroup
	samples []sample // written by the goroutine until it has ended
	// What the last look has counted, that of servers before a restart included: each counts from its start.
	counted, earlier int64
	restarts         int

	offer     order.OfferID // whose units left are read, too; 0: none
	remaining []sample
}

// Periods of polling.
const (
	pollUnderLoad = 250 * time.Millisecond
	pollAfter     = 5 * time.Millisecond
	settleWait    = 2 * time.Minute // until everything accepted is stored
	standing      = 2 * time.Second // a count that has not changed for this long, and is not what it should be
)

// goneWait is how long a server may be away before it is given up: a start takes less.
var goneWait = 10 * time.Second

func startWatch(ctx context.Context, s *server, offer order.OfferID) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{server: s, cancel: cancel, offer: offer}
	w.running.Go(func() {
		tick := time.NewTicker(pollUnderLoad)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.look(ctx)
			}
		}
	})
	return w
}

// count is how many orders were stored since the first server's start.
func (w *watch) count(ctx context.Context) (int64, error) {
	n, err := w.server.stored(ctx)
	if err != nil {
		return 0, err
	}
	if w.earlier+n < w.counted {
		w.earlier = w.counted
		w.restarts++
	}
	w.counted = w.earlier + n
	return w.counted, nil
}

func (w *watch) look(ctx context.Context) {
	if n, err := w.count(ctx); err == nil {
		w.samples = append(w.samples, sample{time.Now(), n})
	}
	if w.offer == 0 {
		return
	}
	if n, err := w.server.ops.remaining(ctx, w.offer); err == nil {
		w.remaining = append(w.remaining, sample{time.Now(), n})
	}
}

// settle is called when the load has ended. It waits until want orders are stored, or the count has not moved for a
// while: orders are lost (the audit will say), or, if want is not exact, more were accepted than is known. It returns the
// moment at which the last one was seen, and how many there are; an error if the server is gone.
func (w *watch) settle(ctx context.Context, want int64, exact bool) (sample, error) {
	w.stop()
	var last sample
	begun := time.Now()
	for heard := begun; ; {
		n, err := w.count(ctx)
		now := time.Now()
		if err == nil {
			heard = now
			if n != last.stored || last.at.IsZero() {
				last = sample{now, n}
				w.samples = append(w.samples, last)
			}
		}
		if ctx.Err() != nil {
			return last, ctx.Err()
		}
		if err != nil && now.Sub(heard) > goneWait {
			return last, fmt.Errorf("the server is gone: %w; start it again and ask `sluice audit` what became of the orders", err)
		}
		stands := !last.at.IsZero() && now.Sub(last.at) > standing
		if exact && last.stored >= want && !last.at.IsZero() || stands || now.Sub(begun) > settleWait {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollAfter):
		}
	}
	// Samples under load may have seen the last change already.
	for i := len(w.samples) - 1; i > 0 && w.samples[i-1].stored == last.stored; i-- {
		last.at = w.samples[i-1].at
	}
	return last, nil
}

// stop ends the looks under load.
func (w *watch) stop() {
	w.cancel()
	w.running.Wait()
}

// note tells what a restart has done to the count.
func (w *watch) note(round *Round) {
	if w.restarts > 0 {
		round.Notes = append(round.Notes, "the server was started anew meanwhile: what it stored right before is not counted, the rate has its absence in it")
	}
}

// storedAt is how many were stored at a moment, between two samples in proportion.
func (w *watch) storedAt(t time.Time) float64 {
	before := sample{}
	for _, s := range w.samples {
		if s.at.After(t) {
			if before.at.IsZero() {
				return 0
			}
			share := float64(t.Sub(before.at)) / float64(s.at.Sub(before.at))
			return float64(before.stored) + share*float64(s.stored-before.stored)
		}
		before = s
	}
	return float64(before.stored)
}
