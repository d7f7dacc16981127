package limit

import (
	"sync/atomic"
	"time"
)

// Global is one limiter for everything: one number. The zero Global is ready. All methods are safe for concurrent use.
type Global struct {
	tat atomic.Int64
}

// Take lets one through at now and returns 0, or returns after how long one may come, and takes nothing. l is on.
func (g *Global) Take(now int64, l *Limit) (wait time.Duration) {
	for {
		tat := g.tat.Load()
		after, wait := l.next(tat, now)
		if after == tat || g.tat.CompareAndSwap(tat, after) {
			return wait
		}
	}
}

// GiveBack undoes one Take that let through, under the same limit.
func (g *Global) GiveBack(l *Limit) { g.tat.Add(-l.interval()) }
