package limit

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func BenchmarkGlobal(b *testing.B) {
	g, l, now := &Global{}, &Limit{Rate: RateMax, Burst: BurstMax}, int64(1)
	b.ReportAllocs()
	for b.Loop() {
		now += 100
		if g.Take(now, l) != 0 {
			b.Fatal("refused")
		}
	}
}

// BenchmarkKeyed takes among a million keys, which no cache holds.
func BenchmarkKeyed(b *testing.B) {
	k, l, now := NewKeyed(KeysMax), &Limit{Rate: 1, Burst: 100}, int64(1)
	for key := range uint64(1_000_000) {
		k.Take(key, now, l)
	}
	b.ReportAllocs()
	key := uint64(0)
	for b.Loop() {
		key = (key + 7919) % 1_000_000
		now += 1000
		k.Take(key, now, l)
	}
}

func BenchmarkKeyedOneKey(b *testing.B) {
	k, l, now := NewKeyed(KeysMax), &Limit{Rate: 1000, Burst: 100}, int64(1)
	b.ReportAllocs()
	for b.Loop() {
		now += 1000
		k.Take(42, now, l)
	}
}

func BenchmarkKeyedParallel(b *testing.B) {
	k, l := NewKeyed(KeysMax), &Limit{Rate: 1000, Burst: 100}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for key := uint64(0); pb.Next(); key++ {
			k.Take(key%100_000, int64(key)*1000+1, l)
		}
	})
}

// BenchmarkMemory holds KeysMax keys, all live, and says what that takes. Run it with -benchtime 1x.
func BenchmarkMemory(b *testing.B) {
	l := &Limit{Rate: RateMin, Burst: 10}
	for b.Loop() {
		before := rss(b)
		k := NewKeyed(KeysMax)
		began, slowest := time.Now(), time.Duration(0)
		for key := range uint64(KeysMax) {
			one := time.Now()
			k.Take(key, 1, l)
			slowest = max(slowest, time.Since(one))
		}
		b.ReportMetric(float64(time.Since(began).Nanoseconds())/KeysMax, "ns/key")
		b.ReportMetric(float64(slowest.Microseconds()), "us-slowest")
		held := 0
		for i := range k.table.Load() {
			for _, s := range k.table.Load()[i].slots {
				if s.hash != 0 {
					held++
				}
			}
		}
		b.ReportMetric(float64(held), "keys")
		b.ReportMetric(float64(k.Bytes())/float64(held), "B/key")
		b.ReportMetric(float64(k.Bytes())/(1<<20), "MiB-table")
		b.ReportMetric(float64(rss(b)-before)/(1<<20), "MiB-RSS-grown")
	}
}

// rss is the resident memory of this process, in bytes.
func rss(b *testing.B) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	n, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n << 10
}
