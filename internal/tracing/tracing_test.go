package tracing

import (
	"math"
	"testing"
)

const sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestParseParent: what the header says, or none if it is not valid or not sampled.
func TestParseParent(t *testing.T) {
	t.Parallel()
	p := ParseParent([]byte(sampled))
	c := p.spanContext()
	if !p.Sampled() || c.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || c.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("%s: %v", sampled, c)
	}
	later := ParseParent([]byte("cc" + sampled[2:] + "-what-comes-in-a-later-version"))
	if !later.Sampled() {
		t.Error("a later version is not read")
	}
	for _, header := range []string{"", "00", sampled[:54], sampled + "0", sampled + "-x", "ff" + sampled[2:], "zz" + sampled[2:],
		sampled[:53] + "00", sampled[:53] + "zz", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		if p := ParseParent([]byte(header)); p.Sampled() {
			t.Errorf("%q is taken for a parent", header)
		}
	}
}

func FuzzParseParent(f *testing.F) {
	f.Add([]byte(sampled))
	f.Fuzz(func(t *testing.T, header []byte) {
		if p := ParseParent(header); p.Sampled() && !p.spanContext().IsValid() {
			t.Errorf("%q gives %v", header, p.spanContext())
		}
	})
}

// TestPicks: the ratio is kept, and everybody says the same of a batch.
func TestPicks(t *testing.T) {
	t.Parallel()
	var off *Tracer
	off.Close(t.Context())
	if off.Picks(1) {
		t.Error("tracing that is off picks a batch")
	}
	for _, ratio := range []float64{0, 0.1, 1} {
		one, other, picked := &Tracer{ratio: ratio}, &Tracer{ratio: ratio}, 0
		for batch := range uint64(100_000) {
			if one.Picks(batch<<10) != other.Picks(batch<<10) {
				t.Fatal("two processes differ")
			}
			if one.Picks(batch << 10) {
				picked++
			}
		}
		if math.Abs(float64(picked)/100_000-ratio) > 0.005 {
			t.Errorf("ratio %v: %d of 100,000", ratio, picked)
		}
	}
}

// TestOffCostsNothing: what the hot path asks of tracing that is off, and of a batch that is not picked, allocates nothing.
func TestOffCostsNothing(t *testing.T) {
	var off *Tracer
	on := &Tracer{ratio: 0}
	header := []byte(sampled)
	if n := testing.AllocsPerRun(1000, func() {
		if off.Picks(7) || on.Picks(7) {
			t.Error("picked")
		}
		_ = ParseParent(header)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
