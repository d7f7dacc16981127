package store

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sluice/engine/order"
)

// waiters queue up for a turn one after the other; the result is the order in which they get it.
func waiters(t *testing.T, tn *turn, kinds ...order.Kind) *[]order.Kind {
	got := new([]order.Kind)
	for _, kind := range kinds {
		go func() {
			if err := tn.take(context.Background(), kind); err != nil {
				t.Error(err)
			}
			*got = append(*got, kind)
			tn.give()
		}()
		synctest.Wait()
	}
	return got
}

func TestTurnsAlternate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, f = order.Normal, order.Flash
		var tn turn
		noError(t, tn.take(context.Background(), f))
		got := waiters(t, &tn, f, f, f, n, n, 0)
		tn.give()
		synctest.Wait()
		if want := []order.Kind{n, f, n, f, 0, f}; !slices.Equal(*got, want) {
			t.Errorf("turns went %v, want %v", *got, want)
		}
		if tn.held {
			t.Error("the turn is not free")
		}
	})
}

func TestTurnGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tn turn
		noError(t, tn.take(context.Background(), order.Flash))
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan error)
		go func() { gone <- tn.take(ctx, order.Normal) }()
		synctest.Wait()
		if !tn.wanted(order.Flash) || tn.wanted(order.Normal) {
			t.Error("who waits is not seen")
		}
		got := waiters(t, &tn, order.Normal)
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		tn.give()
		synctest.Wait()
		if len(*got) != 1 || tn.held {
			t.Errorf("turns went %v, held %v", *got, tn.held)
		}
	})
}

// A waiter that gives up at the moment it gets the turn passes it on.
func TestTurnGivenUpTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tn turn
		noError(t, tn.take(context.Background(), order.Flash))
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan error)
		go func() { gone <- tn.take(ctx, order.Normal) }()
		synctest.Wait()
		tn.mu.Lock()
		cancel() // it wakes up, and waits for mu
		tn.pass()
		tn.mu.Unlock()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if tn.held {
			t.Error("the turn is lost")
		}
	})
}

func TestFlashGivesWay(t *testing.T) {
	s := newStore(t, SQLite, 1)
	ctx := context.Background()
	normal := make(chan error, 1)
	err := s.update(ctx, 0, order.Flash, func(t *tx) error {
		for time.Since(t.started) < 2*flashHold {
			if t.spent() {
				return errors.New("gives way to nobody")
			}
		}
		go func() { normal <- s.update(ctx, 0, order.Normal, func(*tx) error { return nil }) }()
		for !t.spent() {
			if time.Since(t.started) > 10*time.Second {
				return errors.New("does not give way")
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	noError(t, err)
	noError(t, <-normal)
}
