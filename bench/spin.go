package bench

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// A virtual machine's cores come and go without a word in /proc: what others take shows only as time missing between
// two looks at the clock. spin looks for it on all cores for 100 ms and returns the share of time that was lost.
func spin() float64 {
	const length, gap = 100 * time.Millisecond, 100 * time.Microsecond
	cores := runtime.NumCPU()
	lost := make([]float64, cores)
	var wg sync.WaitGroup
	for i := range cores {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			start := time.Now()
			last, missing := start, time.Duration(0)
			for last.Sub(start) < length {
				now := time.Now()
				if d := now.Sub(last); d > gap {
					missing += d
				}
				last = now
			}
			lost[i] = float64(missing) / float64(last.Sub(start))
		})
	}
	wg.Wait()
	sum := 0.0
	for _, share := range lost {
		sum += share
	}
	return sum / float64(cores)
}

// Thresholds of a quiet machine, before and after a run.
const (
	quietBefore = 0.08
	quietAfter  = 0.12
)

// awaitQuiet waits, at most for patience, until little time is lost, and returns the last look.
func awaitQuiet(ctx context.Context, patience time.Duration) float64 {
	if patience < 0 {
		return spin()
	}
	deadline := time.Now().Add(patience)
	for {
		lost := spin()
		if lost < quietBefore || time.Now().After(deadline) || ctx.Err() != nil {
			return lost
		}
		select {
		case <-ctx.Done():
		case <-time.After(400 * time.Millisecond):
		}
	}
}
