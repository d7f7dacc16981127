// Package histogram counts values in buckets of powers of two: two atomic additions per value, no lock, no allocation.
// Whoever shows them interpolates; a percentile is right to within its bucket, a factor of two.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets is the number of buckets. The last one has everything of 2^24 and more (17 s in microseconds).
const Buckets = 26

// Histogram counts values. The zero value is empty; all methods are safe for concurrent use.
type Histogram struct {
	counts [Buckets]atomic.Int64
	sum    atomic.Int64
}

// Add counts n values of v; below zero counts as zero.
func (h *Histogram) Add(v, n int64) {
	v = max(0, v)
	h.counts[min(bits.Len64(uint64(v)), Buckets-1)].Add(n)
	h.sum.Add(v * n)
}

// AddDuration counts n durations, in microseconds.
func (h *Histogram) AddDuration(d time.Duration, n int64) { h.Add(d.Microseconds(), n) }

// Sizes is a snapshot of counted numbers: Counts[i] of them were below 2^i, and not below 2^(i-1). Sum adds them up.
type Sizes struct {
	Counts []int64
	Sum    int64
}

// Durations is a snapshot of counted durations: Counts[i] of them took less than 2^i microseconds, and not less than
// 2^(i-1). Sum adds them up.
type Durations struct {
	Counts []int64
	Sum    time.Duration
}

// Count is how many were counted.
func (s *Sizes) Count() (n int64) {
	for _, c := range s.Counts {
		n += c
	}
	return n
}

// Sizes reads the counts, each for itself, of a histogram of numbers.
func (h *Histogram) Sizes() Sizes {
	s := Sizes{Counts: make([]int64, Buckets), Sum: h.sum.Load()}
	for i := range s.Counts {
		s.Counts[i] = h.counts[i].Load()
	}
	return s
}

// Durations reads the counts, each for itself, of a histogram of durations.
func (h *Histogram) Durations() Durations {
	s := h.Sizes()
	return Durations{Counts: s.Counts, Sum: time.Duration(s.Sum) * time.Microsecond}
}
