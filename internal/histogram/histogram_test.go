package histogram_test

import (
	"math"
	"testing"
	"time"

	"sluice/internal/histogram"
)

// TestBuckets: bucket i has what is below 2^i and not below 2^(i-1), and nothing is lost at the ends.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value  int64
		bucket int
	}{{-5, 0}, {0, 0}, {1, 1}, {2, 2}, {3, 2}, {4, 3}, {1 << 23, 24}, {1<<24 - 1, 24}, {1 << 24, 25}, {math.MaxInt64, 25}} {
		var h histogram.Histogram
		h.Add(c.value, 1)
		if s := h.Sizes(); s.Counts[c.bucket] != 1 || s.Sum != max(0, c.value) {
			t.Errorf("%d: %v, sum %d; want it in bucket %d", c.value, s.Counts, s.Sum, c.bucket)
		}
	}
	var h histogram.Histogram
	h.AddDuration(3*time.Microsecond, 7)
	if d := h.Durations(); d.Counts[2] != 7 || d.Sum != 21*time.Microsecond {
		t.Errorf("seven times 3 µs: %v, sum %v", d.Counts, d.Sum)
	}
}
