package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const second = int64(time.Second)

// bucket is the model: a bucket of credit in nanoseconds, kept the plain way.
type bucket struct{ credit, at int64 }

func (b *bucket) refill(now int64, l *Limit) {
	b.credit, b.at = min(int64(l.Burst)*l.interval(), b.credit+now-b.at), now
}

func (b *bucket) take(now int64, l *Limit) time.Duration {
	b.refill(now, l)
	if short := l.interval() - b.credit; short > 0 {
		return time.Duration(short)
	}
	b.credit -= l.interval()
	return 0
}

func drawLimit(t *rapid.T) *Limit {
	return &Limit{Rate: rapid.SampledFrom([]float64{RateMin, 0.5, 3, 1000, 1e6, RateMax}).Draw(t, "rate"),
		Burst: rapid.SampledFrom([]int{1, 2, 7, 1000, BurstMax}).Draw(t, "burst")}
}

// drawStep is a time to pass, of the order of the limit's own; none once a century and a half has passed: an int64 of
// nanoseconds holds two of those.
func drawStep(t *rapid.T, l *Limit, now int64) int64 {
	if now > 1<<62 {
		return 0
	}
	return rapid.Int64Range(0, l.interval()*rapid.SampledFrom([]int64{0, 1, 3, 2 * int64(l.Burst)}).Draw(t, "steps")).Draw(t, "step")
}

func TestGlobalIsABucket(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l, g := drawLimit(t), &Global{}
		now := int64(1)
		model := &bucket{int64(l.Burst) * l.interval(), now}
		for range rapid.IntRange(1, 100).Draw(t, "calls") {
			now += drawStep(t, l, now)
			wait, want := g.Take(now, l), model.take(now, l)
			if wait != want {
				t.Fatalf("at %d: wait %v, want %v", now, wait, want)
			}
			if wait == 0 && rapid.Bool().Draw(t, "give back") {
				g.GiveBack(l)
				model.credit += l.interval()
			}
		}
	})
}

func TestKeyedIsABucketPerKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l, k := drawLimit(t), NewKeyed(KeysMax)
		keys := rapid.SampledFrom([]uint64{1, 5, 30_000}).Draw(t, "keys") // the last one makes parts grow
		now, models := int64(1), map[uint64]*bucket{}
		for range rapid.IntRange(1, 300).Draw(t, "calls") {
			now += drawStep(t, l, now)
			key := rapid.Uint64Range(0, keys).Draw(t, "key")
			for other := key; other < key+keys/100; other++ { // company, in the same parts
				if models[other] == nil {
					models[other] = &bucket{int64(l.Burst) * l.interval(), now}
				}
				if wait, want := k.Take(other, now, l), models[other].take(now, l); wait != want {
					t.Fatalf("at %d: %d waits %v, want %v", now, other, wait, want)
				}
			}
			if models[key] == nil {
				models[key] = &bucket{int64(l.Burst) * l.interval(), now}
			}
			wait, want := k.Take(key, now, l), models[key].take(now, l)
			if wait != want {
				t.Fatalf("at %d: %d waits %v, want %v", now, key, wait, want)
			}
			if wait == 0 && rapid.Bool().Draw(t, "give back") {
				k.GiveBack(key, l)
				models[key].credit += l.interval()
			}
		}
	})
}

// A full table forgets, but it does not grow and it refuses nobody who was not there before.
func TestFullTableRefusesNoNewKey(t *testing.T) {
	t.Parallel()
	k, l := NewKeyed(10_000), &Limit{Rate: 0.001, Burst: 1}
	for key := range uint64(200_000) {
		if wait := k.Take(key, int64(key), l); wait != 0 {
			t.Fatalf("new key %d waits %v", key, wait)
		}
	}
	if most := int64(parts*64 + 2*16*parts*slotsMin); k.Bytes() > most {
		t.Errorf("%d bytes, more than %d", k.Bytes(), most)
	}
	kept := 0
	for key := uint64(199_999); key >= 190_000; key-- {
		if k.Take(key, 200_000, l) != 0 {
			kept++
		}
	}
	if kept < 9_500 { // not all: the keys are not spread evenly over the parts
		t.Errorf("of the 10,000 newest keys only %d are remembered", kept)
	}
}

// Who is forgotten is the one nearest to being full again: who has just spent a large burst stays.
func TestFullTableForgetsTheIdle(t *testing.T) {
	t.Parallel()
	k, l := NewKeyed(10_000), &Limit{Rate: 1, Burst: 1000}
	const greedy = 1 << 40
	for range 1000 {
		k.Take(greedy, 1, l)
	}
	for key := range uint64(100_000) { // all live, each with one taken
		k.Take(key, 2, l)
	}
	if k.Take(greedy, 3, l) == 0 {
		t.Error("the key that has used up its burst was forgotten for idle ones")
	}
}

// Keys that are full again make room: a table that lives long does not grow.
func TestPassedKeysAreUsedAgain(t *testing.T) {
	t.Parallel()
	k, l := NewKeyed(KeysMax), &Limit{Rate: 1, Burst: 1}
	var before int64
	for round := range int64(20) {
		for key := range uint64(50_000) {
			if k.Take(uint64(round)<<32|key, round*2*second+1, l) != 0 {
				t.Fatal("a new key was refused")
			}
		}
		if round == 0 {
			before = k.Bytes()
		}
	}
	if k.Bytes() > before*2 {
		t.Errorf("grew from %d to %d bytes", before, k.Bytes())
	}
}

func TestOffCostsNothing(t *testing.T) {
	t.Parallel()
	k, l := NewKeyed(KeysMax), &Limit{Rate: 1, Burst: 1}
	if k.Bytes() != 0 {
		t.Error("memory before the first key")
	}
	k.Take(1, 1, l)
	if k.Take(1, 1, l) == 0 || k.Bytes() == 0 {
		t.Error("the key was not kept")
	}
	k.Forget()
	k.GiveBack(1, l) // nothing to undo
	if k.Take(1, 1, l) != 0 {
		t.Error("not forgotten")
	}
}

func TestChangedLimitCountsAtOnce(t *testing.T) {
	t.Parallel()
	slow, fast, k, g := &Limit{Rate: 0.001, Burst: 1}, &Limit{Rate: 10, Burst: 5}, NewKeyed(100), &Global{}
	for range 2 {
		k.Take(7, 1, slow)
		g.Take(1, slow)
	}
	if wait := k.Take(7, 2, fast); wait != 100*time.Millisecond {
		t.Errorf("a key that a slower limit has shut out waits %v", wait)
	}
	if wait := g.Take(2, fast); wait != 100*time.Millisecond {
		t.Errorf("global: %v", wait)
	}
	if k.Take(7, 2+second/10, fast) != 0 || g.Take(2+second/10, fast) != 0 {
		t.Error("refused after the wait")
	}
	for range 10 {
		k.Take(7, 5*second, fast)
	}
	if wait := k.Take(7, 5*second, slow); wait != 500*time.Millisecond {
		t.Errorf("after a change to a slower limit: %v", wait)
	}
}

// As many get through as the burst says, however many try at once, on one key and on all of them.
func TestConcurrentTakes(t *testing.T) {
	t.Parallel()
	const workers, keys, burst = 8, 2000, 5
	k, g, l := NewKeyed(KeysMax), &Global{}, &Limit{Rate: 1, Burst: burst}
	all := &Limit{Rate: 1, Burst: 1234}
	var through [keys]atomic.Int32
	var global atomic.Int32
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range burst {
				for key := range uint64(keys) {
					if k.Take(key, 1, l) == 0 {
						through[key].Add(1)
						if key%7 == 0 { // one that was taken is given back, and taken by somebody else
							k.GiveBack(key, l)
							through[key].Add(-1)
						}
					}
					if g.Take(1, all) == 0 {
						global.Add(1)
					}
				}
			}
		})
	}
	group.Wait()
	for key := range through {
		n := through[key].Load()
		for k.Take(uint64(key), 1, l) == 0 {
			n++
		}
		if n != burst {
			t.Fatalf("key %d: %d got through, want %d", key, n, burst)
		}
	}
	if global.Load() != 1234 {
		t.Errorf("global: %d got through", global.Load())
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		l    Limit
		good bool
	}{
		{Limit{}, true}, {Limit{0, 10}, true}, {Limit{RateMin, 1}, true}, {Limit{RateMax, BurstMax}, true},
		{Limit{-1, 1}, false}, {Limit{0.0001, 1}, false}, {Limit{RateMax + 1, 1}, false}, {Limit{1, 0}, false},
		{Limit{1, BurstMax + 1}, false}, {Limit{0, -1}, false}, {Limit{math.NaN(), 1}, false}, {Limit{math.Inf(1), 1}, false},
	} {
		if err := c.l.Validate(); (err == nil) != c.good {
			t.Errorf("%+v: %v", c.l, err)
		}
	}
}
