package gateway

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/order"
)

// hub lets requests wait for the record of an order. Per user shard one SELECT at most is under way, for all waiters
// whose turn it is; each waiter's turn comes after 5 ms, then after twice as long, up to 200 ms.
type hub struct {
	orders     OrderReader
	waitersMax atomic.Int64
	log        *slog.Logger

	mu       sync.Mutex
	draining bool
	waiters  int
	shards   []hubShard
	running  sync.WaitGroup // one look per shard that has waiters
}

type hubShard struct {
	waiting []*waiter
	looking bool // its goroutine runs
}

// waiter is one request that waits. stored gets one value: the order, or nil when the hub drains.
type waiter struct {
	id     order.ID
	stored chan *order.Order
	next   time.Time // its turn
	pause  time.Duration
	until  time.Time
}

const (
	lookFirst  = 5 * time.Millisecond
	lookSlower = 200 * time.Millisecond
	lookOrders = 500 // ids in one SELECT
	lookFor    = time.Second
)

func newHub(orders OrderReader, waitersMax int, log *slog.Logger) *hub {
	h := &hub{orders: orders, log: log, shards: make([]hubShard, orders.Shards())}
	h.waitersMax.Store(int64(waitersMax))
	return h
}

// await returns the order once it is stored; nil when d has passed, when too many wait, or when the hub drains.
func (h *hub) await(id order.ID, d time.Duration) *order.Order {
	now := time.Now()
	w := &waiter{id: id, stored: make(chan *order.Order, 1), next: now.Add(lookFirst), pause: lookFirst, until: now.Add(d)}
	if !h.join(w) {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case o := <-w.stored:
		return o
	case <-timer.C:
		return nil
	}
}

func (h *hub) join(w *waiter) bool {
	number := h.orders.OrderShard(w.id)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining || int64(h.waiters) >= h.waitersMax.Load() {
		return false
	}
	h.waiters++
	s := &h.shards[number]
	s.waiting = append(s.waiting, w)
	if !s.looking {
		s.looking = true
		h.running.Go(func() { h.look(number) })
	}
	return true
}

// drain ends every wait now. Later ones end at once.
func (h *hub) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
	for i := range h.shards {
		for _, w := range h.shards[i].waiting {
			w.stored <- nil
		}
		h.waiters -= len(h.shards[i].waiting)
		h.shards[i].waiting = nil
	}
}

// wait returns when no goroutine of the hub is left. It is called after drain.
func (h *hub) wait() { h.running.Wait() }

// look serves the waiters of one shard until there are none.
func (h *hub) look(number int) {
	timer := time.NewTimer(lookFirst)
	defer timer.Stop()
	for {
		due, next, some := h.turn(number, time.Now())
		if !some {
			return
		}
		if len(due) > 0 {
			h.deliver(number, h.read(number, due))
			continue
		}
		timer.Reset(min(time.Until(next), lookFirst)) // who joins meanwhile may come before next
		<-timer.C
	}
}

// turn returns the ids whose turn it is, or when the next one comes. some is false if nobody waits; then the shard's
// goroutine has ended. Who waited long enough is forgotten: its own timer has told it.
func (h *hub) turn(number int, now time.Time) (due []order.ID, next time.Time, some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.shards[number]
	kept := s.waiting[:0]
	for _, w := range s.waiting {
		if now.After(w.until) {
			continue
		}
		kept = append(kept, w)
		if now.Before(w.next) || len(due) == lookOrders {
			if next.IsZero() || w.next.Before(next) {
				next = w.next
			}
			continue
		}
		due = append(due, w.id)
		w.pause = min(2*w.pause, lookSlower)
		w.next = now.Add(w.pause)
	}
	h.waiters -= len(s.waiting) - len(kept)
	clear(s.waiting[len(kept):])
	s.waiting = kept
	s.looking = len(kept) > 0
	return due, next, s.looking
}

// read reads the orders that are stored. A failed read is like one that found nothing: the next turn tries again.
func (h *hub) read(number int, ids []order.ID) []*order.Order {
	ctx, cancel := context.WithTimeout(context.Background(), lookFor)
	defer cancel()
	found, err := h.orders.OrdersByID(ctx, number, ids)
	if err != nil {
		h.log.Debug("look for orders that are waited for", "shard", number, "orders", len(ids), "error", err)
		return nil
	}
	return found
}

// deliver hands the orders to all who wait for them.
func (h *hub) deliver(number int, found []*order.Order) {
	if len(found) == 0 {
		return
	}
	byID := make(map[order.ID]*order.Order, len(found))
	for _, o := range found {
		if o != nil {
			byID[o.ID] = o
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.shards[number]
	kept := s.waiting[:0]
	for _, w := range s.waiting {
		if o := byID[w.id]; o != nil {
			w.stored <- o
			continue
		}
		kept = append(kept, w)
	}
	h.waiters -= len(s.waiting) - len(kept)
	clear(s.waiting[len(kept):])
	s.waiting = kept
}
