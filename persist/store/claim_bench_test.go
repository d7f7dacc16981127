package store

import (
	"context"
	"syscall"
	"testing"
	"time"

	"sluice/engine/order"
)

// BenchmarkClaim claims flushes of 4,000 orders of distinct random users in batches of 28, as a busy embedded engine
// makes them, for an offer with a limit and for one without. Users come once each, as a limit of one wants. cpu-ns/order counts: the
// time includes fsync.
func BenchmarkClaim(b *testing.B) {
	for _, limit := range []uint32{0, 1} {
		name := map[uint32]string{0: "unlimited", 1: "limited"}[limit]
		b.Run(name, func(b *testing.B) { benchmarkClaim(b, limit) })
	}
}

func benchmarkClaim(b *testing.B, limit uint32) {
	const orders, perBatch = 4000, 28
	ctx := context.Background()
	s, err := Open(ctx, Options{Dialect: SQLite, Shards: []string{b.TempDir() + "/shard-0.db"}, Partitions: testPartitions, Deadline: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	o := order.Offer{Shop: 1, Group: "g", SKU: "s", Title: "t", Kind: order.Flash, Currency: "CNY", Total: order.TotalMax, Limit: limit}
	list, err := s.CreateOffers(ctx, []order.Offer{o})
	if err != nil {
		b.Fatal(err)
	}
	p := s.partition(&list[0])
	epoch, _, err := s.BeginRebuild(ctx, p, 0, true)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Claim(ctx, 0, []*order.Message{barrier(p, epoch)}); err != nil {
		b.Fatal(err)
	}
	id := order.ID(1)
	var busy time.Duration
	for b.Loop() {
		var messages []*order.Message
		for n := 0; n < orders; n += perBatch {
			records := make([]order.Record, perBatch)
			for i := range records {
				id++
				records[i] = record(id, order.UserID(order.SplitMix64(uint64(id))>>1), int(list[0].ID), 1)
			}
			messages = append(messages, batch(p, epoch, records...))
		}
		begun := cpuTime(b)
		verdicts, err := s.Claim(ctx, 0, messages)
		if err != nil || len(verdicts) != len(messages) {
			b.Fatal(err)
		}
		busy += cpuTime(b) - begun
	}
	b.ReportMetric(float64(busy.Nanoseconds())/float64(b.N*orders), "cpu-ns/order")
}

// cpuTime is the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
