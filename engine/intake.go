package engine

import (
	"sync"
	"time"

	"sluice/engine/order"
)

// intake is the bounded queue of one partition: a slice under a mutex, because the seller takes all that waits at once.
type intake struct {
	mu      sync.Mutex
	waiting []*Ticket
	spare   []*Ticket
	closed  bool
	wake    chan struct{} // capacity 1: something waits, or the intake was closed
}

func newIntake() *intake { return &intake{wake: make(chan struct{}, 1)} }

// put adds tickets, from the first on as many as fit below max that wait; none if the intake is closed. It returns how
// many were taken.
func (q *intake) put(tickets []*Ticket, max int) (taken int) {
	q.mu.Lock()
	before := len(q.waiting)
	if !q.closed && before < max {
		taken = min(len(tickets), max-before)
		q.waiting = append(q.waiting, tickets[:taken]...)
	}
	q.mu.Unlock()
	if before == 0 && taken > 0 {
		q.signal()
	}
	return taken
}

func (q *intake) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close refuses further tickets. What waits is still taken.
func (q *intake) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// len is the number of waiting tickets; over says that the intake is closed and empty.
func (q *intake) len() (n int, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.closed && len(q.waiting) == 0
}

// take moves the first tickets that fit one reserve call into batch and returns it. If some remain, the next seller is
// woken.
func (q *intake) take(batch []*Ticket, ordersMax int) []*Ticket {
	q.mu.Lock()
	n, lines, bytes := 0, 0, 0
	for _, t := range q.waiting {
		lines += len(t.Lines)
		bytes += len(t.encoded)
		if n == ordersMax || n > 0 && (lines > order.BatchLinesMax || bytes > order.BatchBytesMax) {
			break
		}
		n++
	}
	batch = append(batch, q.waiting[:n]...)
	rest := append(q.spare[:0], q.waiting[n:]...)
	clear(q.waiting)
	q.waiting, q.spare = rest, q.waiting[:0]
	q.mu.Unlock()
	if len(rest) > 0 {
		q.signal()
	}
	return batch
}

// putBack returns tickets of which nothing is known to have happened to the front.
func (q *intake) putBack(batch []*Ticket) {
	q.mu.Lock()
	q.waiting = append(append(q.spare[:0], batch...), q.waiting...)
	q.spare = nil
	q.mu.Unlock()
	q.signal()
}

// expire answers NotReady to the tickets whose deadline has passed; all of them if the intake is closed.
func (q *intake) expire(now time.Time) (expired int) {
	q.mu.Lock()
	kept := q.waiting[:0]
	var late []*Ticket
	for _, t := range q.waiting {
		if q.closed || now.After(t.Deadline) {
			late = append(late, t)
		} else {
			kept = append(kept, t)
		}
	}
	clear(q.waiting[len(kept):])
	q.waiting = kept
	q.mu.Unlock()
	for _, t := range late {
		t.answer(NotReady)
	}
	return len(late)
}
