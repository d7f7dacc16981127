package main

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"sluice/engine"
	"sluice/engine/order"
)

const startBuyers = 100_000

// BenchmarkStart is one start of the whole server, from nothing to ready, on a directory with 100,000 orders by as many
// buyers of a limited offer and an empty queue: the planned time is below one second.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	start := func() *Server {
		s := settings{set: []string{"data_dir=" + dir, "gateway.listen=127.0.0.1:0", "ops.listen=127.0.0.1:0"}}
		c, d, err := s.load()
		if err != nil {
			b.Fatal(err)
		}
		server := NewServer(c, d, nil, slog.New(slog.DiscardHandler))
		if err := server.Start(context.Background()); err != nil {
			b.Fatal(err)
		}
		return server
	}
	stop := func(s *Server) {
		if err := s.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	first := start()
	sellTo(b, first, startBuyers)
	stop(first)
	b.ResetTimer()
	for range b.N {
		s := start()
		b.StopTimer()
		stop(s)
		b.StartTimer()
	}
}

// sellTo sells one unit of a limited offer to each of n users and waits until all orders are stored.
func sellTo(b *testing.B, s *Server, n int) {
	b.Helper()
	made, err := s.store.CreateOffers(context.Background(), []order.Offer{{Shop: 1, SKU: "s", Title: "t", Kind: order.Flash,
		UnitPrice: 1, Currency: "CNY", Total: int64(n), Limit: 1}})
	if err != nil {
		b.Fatal(err)
	}
	catalogue := catalogue{s}
	for !catalogue.Sellable(&made[0]) {
		time.Sleep(time.Millisecond)
	}
	var wg sync.WaitGroup
	const clients = 256
	for c := range clients {
		wg.Go(func() {
			for user := c + 1; user <= n; user += clients {
				for placed := false; !placed; {
					t := engine.NewTicket()
					t.User, t.Key, t.Lines = order.UserID(user), "k", append(t.Lines, order.Line{Offer: made[0].ID, Quantity: 1})
					s.engine.Place(context.Background(), t)
					placed = t.Answer.Verdict == engine.Placed || t.Answer.Verdict == engine.Replayed
					t.Free()
				}
			}
		})
	}
	wg.Wait()
	for s.persist.Stats().Stored < int64(n) {
		time.Sleep(time.Millisecond)
	}
}
