package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/engine/order"
)

// shelf is a store of one shard, in memory.
type shelf struct {
	OrderReader // the hub asks for nothing else
	mu          sync.Mutex
	stored      map[order.ID]*order.Order
	looks       []time.Time
	largest     int
	active      int
	overlapped  bool
	slow        time.Duration
}

func (s *shelf) Shards() int             { return 1 }
func (s *shelf) OrderShard(order.ID) int { return 0 }

func (s *shelf) OrdersByID(_ context.Context, _ int, ids []order.ID) ([]*order.Order, error) {
	s.mu.Lock()
	s.active++
	s.overlapped = s.overlapped || s.active > 1
	s.looks = append(s.looks, time.Now())
	s.largest = max(s.largest, len(ids))
	s.mu.Unlock()
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	found := make([]*order.Order, len(ids))
	for i, id := range ids {
		found[i] = s.stored[id]
	}
	return found, nil
}

func (s *shelf) put(id order.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[id] = &order.Order{ID: id, Status: order.AwaitingPayment}
}

func TestHubBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{stored: map[order.ID]*order.Order{}}
		h := newHub(s, 10, slog.New(slog.DiscardHandler))
		began := time.Now()
		if o := h.await(7, time.Second); o != nil {
			t.Error("an order that is not stored")
		}
		if d := time.Since(began); d != time.Second {
			t.Errorf("waited %v", d)
		}
		var at []time.Duration
		for _, look := range s.looks {
			at = append(at, look.Sub(began)/time.Millisecond)
		}
		if want := []time.Duration{5, 15, 35, 75, 155, 315, 515, 715, 915}; !slices.Equal(at, want) {
			t.Errorf("looks at %v ms, want %v", at, want)
		}
		h.drain()
		h.wait()
		if h.waiters != 0 {
			t.Errorf("%d waiters are still counted", h.waiters)
		}
	})
}

// A new waiter is served at its own pace, whatever the others' pauses have grown to; and one SELECT serves all whose
// turn it is, one at a time.
func TestHubServesEachInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{stored: map[order.ID]*order.Order{}, slow: 3 * time.Millisecond}
		h := newHub(s, 1000, slog.New(slog.DiscardHandler))
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if h.await(order.ID(1+i), 5*time.Second) == nil {
					t.Error("an order was not found")
				}
			})
		}
		time.Sleep(time.Second)
		s.put(500)
		began := time.Now()
		if h.await(500, 5*time.Second) == nil {
			t.Error("a stored order was not found")
		}
		if d := time.Since(began); d > 15*time.Millisecond {
			t.Errorf("found after %v", d)
		}
		for i := range 100 {
			s.put(order.ID(1 + i))
		}
		wg.Wait()
		if s.overlapped || s.largest != 100 || len(s.looks) > 15 {
			t.Errorf("overlapped %v, largest %d, %d looks", s.overlapped, s.largest, len(s.looks))
		}
		h.drain()
		h.wait()
	})
}

func TestHubIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{stored: map[order.ID]*order.Order{}}
		h := newHub(s, 2, slog.New(slog.DiscardHandler))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { h.await(7, 10*time.Second) })
		}
		synctest.Wait()
		began := time.Now()
		h.await(7, 10*time.Second)
		if d := time.Since(began); d != 0 {
			t.Errorf("one too many waited %v", d)
		}
		h.drain()
		wg.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("the drain took %v", d)
		}
		h.await(7, 10*time.Second)
		if d := time.Since(began); d != 0 {
			t.Errorf("a wait after the drain took %v", d)
		}
		h.wait()
	})
}
