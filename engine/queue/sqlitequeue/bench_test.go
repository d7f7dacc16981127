package sqlitequeue

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
)

var benchPartitions = order.Partitions{Normal: 4, Flash: 4}

// BenchmarkPublish drives the whole path: publishers that wait for the commit, consumers that acknowledge.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{9 << 10, 100 << 10} {
		for _, publishers := range []int{1, 8} {
			b.Run(fmt.Sprintf("bytes=%d/publishers=%d", size, publishers), func(b *testing.B) {
				benchPublish(b, size, publishers)
			})
		}
	}
}

func benchPublish(b *testing.B, size, publishers int) {
	q, err := Open(b.Context(), Options{Path: filepath.Join(b.TempDir(), "q.db"), Partitions: benchPartitions})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var consumers sync.WaitGroup
	for _, kind := range []order.Kind{order.Normal, order.Flash} {
		c, err := q.Consumer(ctx, kind)
		if err != nil {
			b.Fatal(err)
		}
		consumers.Go(func() {
			defer c.Close()
			for {
				got, err := c.Receive(ctx, 256, 8<<20)
				if err != nil {
					return
				}
				for _, d := range got {
					_ = c.Ack(ctx, d.Partition, d.Position)
				}
			}
		})
	}
	body := make([]byte, size)
	took := make([][]time.Duration, publishers)
	b.SetBytes(int64(size))
	b.ResetTimer()
	var work sync.WaitGroup
	for i := range publishers {
		work.Go(func() {
			for n := i; n < b.N; n += publishers {
				start := time.Now()
				if err := q.Publish(ctx, order.Partition(i), body); err != nil {
					b.Error(err)
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	work.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
	cancel()
	consumers.Wait()
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}
