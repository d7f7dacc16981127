// Package leader is the seam to locks that save double work: of several processes that would do the same job, one does
// it. They protect nothing. Whoever leads may sleep longer than its lock lives, and Redis may forget a lock at any
// moment; then a job is done twice, or by two at once, and must be safe all the same (a rebuild: by the rows and the
// fence; expiry: by the orders' status). Package redisleader is the distributed driver; Alone serves one process.
package leader

import (
	"context"
	"time"
)

// Leader says whether this process does a job. It is safe for concurrent use.
type Leader interface {
	// Leads tells whether this process leads the job: nobody led it, or this process did already. It then leads it for
	// ttl from now. It is true too if it cannot be found out: a job done twice is better than one not done.
	Leads(ctx context.Context, job string, ttl time.Duration) bool

	// Leave ends this process's lead of the job, if it has it. What cannot be ended runs out.
	Leave(ctx context.Context, job string)

	// Close frees what the driver holds. Locks run out.
	Close() error
}

// Alone is the leader of every job: there is no other process.
type Alone struct{}

var _ Leader = Alone{}

// Leads is true.
func (Alone) Leads(context.Context, string, time.Duration) bool { return true }

// Leave does nothing.
func (Alone) Leave(context.Context, string) {}

// Close does nothing.
func (Alone) Close() error { return nil }
