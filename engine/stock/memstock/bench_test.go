package memstock

import (
	"context"
	"runtime"
	"testing"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// selling returns a stock that sells one offer of each limit without end.
func selling(b testing.TB, limits ...uint32) *Stock {
	b.Helper()
	s := New(Options{Partitions: order.Partitions{Normal: 1}})
	page := &stock.LoadPage{Last: true, Lost: true}
	for i, limit := range limits {
		page.Offers = append(page.Offers, stock.LoadOffer{Offer: order.OfferID(i + 1), Left: 1 << 40, Limit: limit})
	}
	if _, ok, err := s.Shut(context.Background(), 0, 1); err != nil || !ok {
		b.Fatal(ok, err)
	}
	if err := s.Load(context.Background(), 0, 1, page); err != nil {
		b.Fatal(err)
	}
	return s
}

// buyers fills calls with requests of new users and confirms the batch before.
type buyers struct {
	call stock.ReserveCall
	n    uint64
}

func newBuyers(size int) *buyers {
	bs := &buyers{call: stock.ReserveCall{Epoch: 1, Requests: make([]stock.Request, size)}}
	record := make([]byte, 250)
	for i := range bs.call.Requests {
		bs.call.Requests[i] = stock.Request{Record: record, Lines: []order.Line{{Offer: 1, Quantity: 1}}}
	}
	return bs
}

func (bs *buyers) reserve(b testing.TB, s *Stock) {
	for i := range bs.call.Requests {
		r := &bs.call.Requests[i]
		bs.n++
		r.Order, r.User, r.Key = order.ID(bs.n), order.UserID(bs.n*7919), order.SplitMix64(bs.n)
	}
	res, err := s.Reserve(context.Background(), &bs.call)
	if err != nil || res.Batch == 0 {
		b.Fatal(res, err)
	}
	bs.call.Confirmed = append(bs.call.Confirmed[:0], res.Batch)
}

// BenchmarkReserve is one iteration per request, in calls of 1,000 that are all accepted, with a key each.
func BenchmarkReserve(b *testing.B) {
	for _, c := range []struct {
		name  string
		limit uint32
	}{{"unlimited", 0}, {"limit", 1}} {
		b.Run(c.name, func(b *testing.B) {
			s, bs := selling(b, c.limit), newBuyers(1000)
			b.ReportAllocs()
			for i := 0; i < b.N; i += 1000 {
				bs.reserve(b, s)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

// BenchmarkIdemMemory prints the live heap that a key takes when a partition holds a million, and the most it took at
// any size on the way there.
func BenchmarkIdemMemory(b *testing.B) {
	for b.Loop() {
		before := heapInUse()
		s, bs := selling(b, 0), newBuyers(1000)
		most, perKey := 0.0, 0.0
		for bs.n < 1_000_000 {
			bs.reserve(b, s)
			if bs.n%50_000 == 0 {
				perKey = float64(heapInUse()-before) / float64(bs.n)
				most = max(most, perKey)
			}
		}
		b.ReportMetric(perKey, "B/key")
		b.ReportMetric(most, "most-B/key")
		runtime.KeepAlive(s)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
