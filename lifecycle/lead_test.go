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
	left map[string]bool
}

func (l *lead) Leads(context.Context, string, time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.no
}

func (l *lead) Leave(_ context.Context, job string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left[job] = true
}

// One process expires unpaid orders and relays events, and leaves both to another one when it stops.
func TestWhoLeadsExpires(t *testing.T) {
	onDialects(t, func(x *shop) {
		other, here := &lead{no: true, left: map[string]bool{}}, &lead{left: map[string]bool{}}
		x.start(Options{Leader: other, Tuning: Tuning{ExpireEvery: time.Millisecond, EventsEvery: time.Millisecond}})
		idle := x.Lifecycle
		x.start(Options{Leader: here, Tuning: Tuning{ExpireEvery: 100 * time.Millisecond}})
		x.place(0, 1, "soon", users(1, 50)...)
		x.await(0)
		x.awaitEvents(100)
		if st := idle.Stats(); st.Expired != 0 || st.EventsNumbered != 0 {
			x.t.Errorf("%d orders were expired and %d events numbered by who does not lead", st.Expired, st.EventsNumbered)
		}
		noError(x.t, x.Lifecycle.Close(context.Background()))
		if len(here.left) != 2*x.Shards() {
			x.t.Errorf("left %v, of %d shards", here.left, x.Shards())
		}
	})
}
