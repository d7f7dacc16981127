// Package redisleader keeps leader locks in Redis, with redislock: one key per job, "<name>:lead:<job>", that its time to
// live removes. A token that belongs to this process makes taking and renewing the same call.
package redisleader

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"sluice/internal/leader"
)

// callTimeout bounds one call: a job must not wait for a lock that only saves work.
const callTimeout = 300 * time.Millisecond

// Leader keeps its locks in Redis. It implements leader.Leader.
type Leader struct {
	redis redis.UniversalClient
	locks *redislock.Client
	name  string
	token string
}

var _ leader.Leader = (*Leader)(nil)

// New returns a Leader of the deployment of that name, which closes the client with Close. It connects when the first
// call needs it.
func New(client redis.UniversalClient, name string) *Leader {
	return &Leader{redis: client, locks: redislock.New(client), name: name, token: rand.Text()}
}

// Leads takes or renews the lock of the job (leader.Leader).
func (l *Leader) Leads(ctx context.Context, job string, ttl time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := l.obtain(ctx, job, ttl)
	return !errors.Is(err, redislock.ErrNotObtained)
}

// Leave releases the lock of the job (leader.Leader).
func (l *Leader) Leave(ctx context.Context, job string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// Taking the lock again gives what can be released. One that was lost is had for a moment, or is another's by now.
	if lock, err := l.obtain(ctx, job, callTimeout); err == nil {
		_ = lock.Release(ctx) // or it runs out
	}
}

func (l *Leader) obtain(ctx context.Context, job string, ttl time.Duration) (*redislock.Lock, error) {
	return l.locks.Obtain(ctx, l.name+":lead:"+job, ttl, &redislock.Options{Token: l.token})
}

// Close closes the client.
func (l *Leader) Close() error { return l.redis.Close() }
