package feed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
	"sluice/lifecycle/feed"
	"sluice/lifecycle/feed/feedtest"
	"sluice/persist/store"
)

// The embedded feed is the event table.
func TestTable(t *testing.T) {
	t.Parallel()
	feedtest.Run(t, func(_ *testing.T, s *store.Store) feedtest.Feed {
		return feedtest.Feed{Read: func(t *testing.T, shard int) (all []order.Event) {
			for after, more := int64(0), true; more; {
				events, err := s.FeedEvents(t.Context(), shard, after, 70)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, events...)
				if more = len(events) > 0; more {
					after = events[len(events)-1].Number
				}
			}
			return all
		}}
	})
}

// A publisher that fails whenever it can, and may have published what it failed with.
func TestFlakyPublisher(t *testing.T) {
	t.Parallel()
	feedtest.Run(t, func(*testing.T, *store.Store) feedtest.Feed {
		p := &flaky{bodies: map[int][][]byte{}}
		return feedtest.Feed{Publisher: p, Read: p.read}
	})
}

type flaky struct {
	mu     sync.Mutex
	bodies map[int][][]byte
	calls  int
	closed bool
}

var errFlaky = errors.New("no answer")

func (p *flaky) Publish(ctx context.Context, shard int, events []order.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || ctx.Err() != nil {
		return errors.New("closed, or too late")
	}
	bodies := feed.Bodies(events, 16<<10)
	if p.calls++; ctx.Done() != nil && p.calls%4 != 0 && len(events) > 7 { // those of the relay: never for ever
		p.bodies[shard] = append(p.bodies[shard], bodies[:rand.IntN(len(bodies)+1)]...)
		return errFlaky
	}
	p.bodies[shard] = append(p.bodies[shard], bodies...)
	return nil
}

func (p *flaky) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

func (p *flaky) read(t *testing.T, shard int) (all []order.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, body := range p.bodies[shard] {
		events, err := feed.Events(body)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, events...)
	}
	return all
}

func TestBodies(t *testing.T) {
	t.Parallel()
	var events []order.Event
	for n := range 500 {
		events = append(events, order.Event{Shard: 1, Number: int64(n) + 1, Order: order.ID(n + 1), Type: "recorded", Actor: "record", User: 1,
			Details: fmt.Appendf(nil, `{"note":"%s"}`, bytes.Repeat([]byte("x"), n*3))})
	}
	bodies := feed.Bodies(events, order.EventBytesMax)
	var got []order.Event
	for i, body := range bodies {
		if len(body) > order.EventBytesMax {
			t.Errorf("body %d has %d bytes", i, len(body))
		}
		more, err := feed.Events(body)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, more...)
	}
	if diff := cmp.Diff(events, got); diff != "" || len(bodies) < 50 {
		t.Errorf("%d bodies\n%s", len(bodies), diff)
	}
	if feed.Bodies(nil, order.EventBytesMax) != nil {
		t.Error("no events have a body")
	}
	if _, err := feed.Events(bodies[0][:len(bodies[0])-3]); err == nil {
		t.Error("half an event was read")
	}
}
