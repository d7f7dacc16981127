package store

import (
	"context"
	"sync"
	"time"

	"sluice/engine/order"
)

// flashHold is how long a flash flush may hold the one writer of a file while ordinary writers wait.
const flashHold = 20 * time.Millisecond

// turn decides who writes next to a file that has one writer. Waiters of the same kind go in order of arrival, and the
// kinds alternate: however many flash flushes wait, an ordinary writer waits for one of them at most. The zero turn is
// free.
type turn struct {
	mu      sync.Mutex
	held    bool
	last    int // line of the present or last holder
	waiting [2][]chan struct{}
}

// line is the queue a kind waits in: flash flushes in one, everything else in the other.
func line(kind order.Kind) int {
	if kind == order.Flash {
		return 1
	}
	return 0
}

// take waits for the turn. When ctx ends first the turn was not taken.
func (t *turn) take(ctx context.Context, kind order.Kind) error {
	l := line(kind)
	t.mu.Lock()
	if !t.held {
		t.held, t.last = true, l
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.waiting[l] = append(t.waiting[l], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	for i, c := range t.waiting[l] {
		if c == mine {
			t.waiting[l] = append(t.waiting[l][:i], t.waiting[l][i+1:]...)
			t.mu.Unlock()
			return ctx.Err()
		}
	}
	t.mu.Unlock()
	t.give() // it came while ctx ended
	return ctx.Err()
}

// give passes the turn on: to the other line if somebody waits there, else to the same.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

// pass is give for a caller that has mu.
func (t *turn) pass() {
	for _, l := range [2]int{1 - t.last, t.last} {
		if len(t.waiting[l]) > 0 {
			next := t.waiting[l][0]
			t.waiting[l] = t.waiting[l][1:]
			t.last = l
			close(next)
			return
		}
	}
	t.held = false
}

// wanted tells whether somebody of the other line waits.
func (t *turn) wanted(kind order.Kind) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting[1-line(kind)]) > 0
}
