package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/engine"
	"sluice/engine/order"
)

// BenchmarkRebuild is one rebuild of a partition with 100,000 units sold to as many buyers of a limited offer, on Redis and
// MySQL, while another partition on the same Redis sells: what its buyers wait is reported before and meanwhile.
// "planned" finds fast stock intact, "lost" its fence gone, which costs D (1 s) more; "snapshot" is no rebuild but what
// the look for drift reads.
func BenchmarkRebuild(b *testing.B) {
	client, name, set := onRedis(b)
	_, shards := onMySQL(b)
	s := settings{set: append(append(set, shards...), "data_dir="+b.TempDir(), "gateway.listen=127.0.0.1:0", "ops.listen=127.0.0.1:0")}
	c, d, err := s.load()
	if err != nil {
		b.Fatal(err)
	}
	server := NewServer(c, d, nil, slog.New(slog.DiscardHandler))
	defer func() {
		if err := server.Close(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	if err := server.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	sellTo(b, server, startBuyers)
	sold := server.engine.Offers()[0].Partition
	other := &traffic{e: server.engine, offer: otherOffer(b, server, sold)}
	defer other.begin()()
	anew := func(b *testing.B, want func() error) {
		before := epochOf(server.engine, sold)
		if err := want(); err != nil {
			b.Fatal(err)
		}
		for epochOf(server.engine, sold) <= before {
			time.Sleep(time.Millisecond)
		}
	}
	run := func(what string, f func(*testing.B)) {
		b.Run(what, func(b *testing.B) {
			other.take()
			<-time.After(2 * time.Second)
			before := other.take()
			for b.Loop() {
				f(b)
			}
			meanwhile := other.take()
			before.report(b, "before")
			meanwhile.report(b, "meanwhile")
		})
	}
	run("planned", func(b *testing.B) {
		anew(b, func() error { return server.engine.RequestRebuild(context.Background(), sold) })
	})
	run("lost", func(b *testing.B) {
		anew(b, func() error { return client.Del(context.Background(), fmt.Sprintf("%s:{%d}:fence", name, sold)).Err() })
	})
	run("snapshot", func(b *testing.B) {
		if snap, _, err := server.engine.Snapshot(context.Background(), sold); err != nil || len(snap.Buyers) != startBuyers {
			b.Fatal(err)
		}
	})
}

// otherOffer makes an offer of another flash partition.
func otherOffer(b *testing.B, s *Server, not order.Partition) order.OfferID {
	b.Helper()
	for {
		made, err := s.store.CreateOffers(context.Background(), []order.Offer{{Shop: 1, SKU: "s", Title: "t", Kind: order.Flash,
			UnitPrice: 1, Currency: "CNY", Total: 1 << 40}})
		if err != nil {
			b.Fatal(err)
		}
		for !(catalogue{s}).Sellable(&made[0]) {
			time.Sleep(time.Millisecond)
		}
		if s.engine.Offer(made[0].ID).Partition != not {
			return made[0].ID
		}
	}
}

// epochOf is the epoch under which a partition is open; 0 if it is not.
func epochOf(e *engine.Engine, p order.Partition) order.Epoch {
	for _, s := range e.Ready() {
		if s.Partition == p && s.State == "open" {
			return s.Epoch
		}
	}
	return 0
}

// traffic is a modest sale whose buyers' waits are noted: an order every two milliseconds, whether or not the ones before
// were answered.
type traffic struct {
	e     *engine.Engine
	offer order.OfferID
	mu    sync.Mutex
	seen  waits
}

// waits are how long orders took, and how many were not placed.
type waits struct {
	list  []time.Duration
	fails int
}

// begin starts it; stop waits for the last answer.
func (s *traffic) begin() (stop func()) {
	over := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for user := order.UserID(1); ; user++ {
			select {
			case <-over:
				return
			case at := <-tick.C:
				all.Go(func() { s.place(user, at) })
			}
		}
	})
	return func() { close(over); all.Wait() }
}

func (s *traffic) place(user order.UserID, at time.Time) {
	t := engine.NewTicket()
	defer t.Free()
	t.User, t.Lines = user, append(t.Lines, order.Line{Offer: s.offer, Quantity: 1})
	s.e.Place(context.Background(), t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.list = append(s.seen.list, time.Since(at))
	if t.Answer.Verdict != engine.Placed {
		s.seen.fails++
	}
}

// take gives what was noted since it was called last.
func (s *traffic) take() (w waits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, s.seen = s.seen, w
	return w
}

func (w *waits) report(b *testing.B, when string) {
	slices.Sort(w.list)
	at := func(part float64) float64 { return w.list[int(part*float64(len(w.list)-1))].Seconds() * 1000 }
	b.ReportMetric(at(0.5), "ms-p50-"+when)
	b.ReportMetric(at(0.99), "ms-p99-"+when)
	b.ReportMetric(at(1), "ms-max-"+when)
	if w.fails > 0 {
		b.Errorf("%d orders of the other partition were not placed %s", w.fails, when)
	}
}
