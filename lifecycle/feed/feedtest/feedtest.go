// Package feedtest is the suite that every feed of order events must pass (package feed): the embedded one, which is the
// event table, and those of publishers. It records and changes orders in a store of its own, lets lifecycle relay the
// events, and reads them as another program would.
//
// Its goroutines are hands that record at once; the test that starts them waits for them.
package feedtest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/lifecycle"
	"sluice/lifecycle/feed"
	"sluice/persist/store"
)

// Feed is a feed that nobody has used yet, as its readers and its relay have it.
type Feed struct {
	// Publisher is nil where the event table is the feed. The suite closes it.
	Publisher feed.Publisher
	// Read returns everything that a reader of a shard's feed has been given so far, from the beginning, repeats included.
	Read func(t *testing.T, shard int) []order.Event
}

// Run runs the suite. open makes a feed of the events of s; it may be called while other tests run.
func Run(t *testing.T, open func(t *testing.T, s *store.Store) Feed) {
	for _, c := range []struct {
		name string
		test func(*world)
	}{
		{"every event in order", everyEvent},
		{"relays that die", relaysDie},
		{"relays at once", relaysAtOnce},
		{"long events", longEvents},
		{"publisher", publisher},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.feed = open(t, w.Store)
			if w.feed.Publisher != nil {
				t.Cleanup(func() { _ = w.feed.Publisher.Close() }) // one of the tests has closed it
			}
			c.test(w)
		})
	}
}

// everyEvent lets orders live while their events are relayed.
func everyEvent(w *world) {
	stop := w.relay()
	w.place(300)
	w.change()
	w.place(300)
	w.change()
	w.complete()
	stop()
	w.relay() // on what is relayed already
	w.place(10)
	w.complete()
}

// relaysDie publishes by hand what a relay had published when it died, before it could say so.
func relaysDie(w *world) {
	w.place(100)
	w.change()
	for w.number() {
	}
	for shard := range w.Shards() {
		events, err := w.FeedEvents(w.t.Context(), shard, 0, feed.PageMax)
		w.noError(err)
		if len(events) < 10 {
			w.t.Fatalf("%d events on shard %d", len(events), shard)
		}
		if w.feed.Publisher != nil {
			w.publish(shard, events[:len(events)-5])
			w.noError(w.SetFeedPublished(w.t.Context(), shard, events[2].Number))
		}
	}
	w.relay()
	w.place(20)
	w.complete()
}

// relaysAtOnce lets three processes relay what ten goroutines record.
func relaysAtOnce(w *world) {
	for range 3 {
		w.relay()
	}
	w.crowd(10, 12)
	w.complete()
}

// longEvents fills more than one message of a broker with one page of events.
func longEvents(w *world) {
	w.details = longDetails
	w.place(1200)
	w.relay()
	w.complete()
}

// publisher: what a Publisher promises beside that.
func publisher(w *world) {
	if w.feed.Publisher == nil {
		w.place(1)
		w.relay()
		w.complete() // there is nothing else
		return
	}
	w.place(50)
	for w.number() {
	}
	gone, cancel := context.WithCancel(w.t.Context())
	cancel()
	for shard := range w.Shards() {
		events, err := w.FeedEvents(w.t.Context(), shard, 0, feed.PageMax)
		w.noError(err)
		for n := 0; n < len(events); n += 7 { // page after page, some of them twice
			page := events[n:min(n+7, len(events))]
			err := w.feed.Publisher.Publish(gone, shard, page)
			if err == nil && n == 0 {
				w.readUntil(shard, page[len(page)-1].Number) // it has been durable in no time
			}
			w.publish(shard, page)
		}
		w.noError(w.SetFeedPublished(w.t.Context(), shard, events[len(events)-1].Number))
	}
	w.complete()
	w.noError(w.feed.Publisher.Close())
	if err := w.feed.Publisher.Publish(w.t.Context(), 0, []order.Event{{Number: 1, Order: 1, User: 1}}); err == nil {
		w.t.Error("a closed publisher has published")
	}
	w.complete() // what was published outlives the publisher
}

// relay starts a lifecycle that relays, until stop or the end of the test.
func (w *world) relay() (stop func()) {
	l := lifecycle.New(lifecycle.Options{Publisher: w.feed.Publisher, Tuning: lifecycle.Tuning{EventsEvery: 5 * time.Millisecond,
		ExpireEvery: 20 * time.Millisecond, GiveBackEvery: 20 * time.Millisecond, CallTimeout: time.Minute}}, w.Store,
		slog.New(slog.DiscardHandler))
	w.noError(l.Start(w.t.Context()))
	over := false
	stop = func() {
		if !over {
			over = true
			w.noError(l.Close(context.Background()))
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// publish publishes as a relay does: an error means unknown, and the same comes again.
func (w *world) publish(shard int, events []order.Event) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := w.feed.Publisher.Publish(w.t.Context(), shard, events)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("shard %d: events from number %d on cannot be published: %v", shard, events[0].Number, err)
		}
	}
}

func (w *world) number() (more bool) {
	for shard := range w.Shards() {
		given, _, err := w.NumberEvents(w.t.Context(), shard)
		w.noError(err)
		more = more || given > 0
	}
	return more
}
