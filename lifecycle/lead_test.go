package lifecycle

import (
	"context"
	"sync"
	"testing"
	"time"

	"sluice/internal/leader"
)

// lead is the lead of every job, which a test gives and takes.
type lead struct {
	leader.Alone
	mu   sync.Mutex
	no   bool
	left []string
}

func (l *lead) Leads(context.Context, string, time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.no
}

func (l *lead) Leave(_ context.Context, job string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = append(l.left, job)
}

// One process expires unpaid orders, and leaves it to another one when it stops.
func TestWhoLeadsExpires(t *testing.T) {
	onDialects(t, func(x *shop) {
		other, here := &lead{no: true}, &lead{}
		x.start(Options{Leader: other, Tuning: Tuning{ExpireEvery: time.Millisecond}})
		idle := x.Lifecycle
		x.start(Options{Leader: here, Tuning: Tuning{ExpireEvery: 100 * time.Millisecond}})
		x.place(0, 1, "soon", users(1, 50)...)
		x.await(0)
		if n := idle.Stats().Expired; n != 0 {
			x.t.Errorf("%d orders were expired by who does not lead", n)
		}
		noError(x.t, x.Lifecycle.Close(context.Background()))
		if len(here.left) != x.Shards() {
			x.t.Errorf("left %v, of %d shards", here.left, x.Shards())
		}
	})
}
