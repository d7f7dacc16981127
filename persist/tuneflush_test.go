package persist_test

import (
	"testing"
	"time"

	"sluice/persist"
)

// A flush waits as long, and takes as many orders, as the tuning says.
func TestFlushesFollowTheTuning(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	x, _ := l.start()
	tune := func(change func(*persist.Tuning)) {
		tuning := persist.DefaultOptions().Tuning
		change(&tuning)
		check(t, x.Tune(tuning))
	}
	orders := int64(0)
	publish := func(n int) {
		l.batch(l.epoch, n)
		orders += int64(n)
	}
	counted := func() {
		l.await("the orders to be counted", func() bool { return x.Stats().Orders == orders })
	}
	flushes := func() int64 {
		for range 3 { // a load, so that flushes wait
			publish(1000)
		}
		counted()
		before := x.Stats().Flushes
		for range 10 {
			publish(1)
		}
		counted()
		return x.Stats().Flushes - before
	}
	tune(func(t *persist.Tuning) { t.Linger = time.Second })
	if n := flushes(); n > 7 { // 1 to 3 on a machine that has nothing else to do
		t.Errorf("ten batches that came within a second took %d flushes", n)
	}
	tune(func(t *persist.Tuning) { t.Linger, t.FlushOrdersMax = time.Second, 1 })
	if n := flushes(); n < 9 { // 10, unless one takes longer than the others wait for it
		t.Errorf("ten orders took %d flushes of one", n)
	}
}
