package lifecycle

import (
	"context"
	"fmt"
	"time"
)

// expireLead is how long a process that stopped looking for unpaid orders keeps others from it.
const expireLead = 5 * time.Second

func expireJob(shard int) string { return fmt.Sprintf("expire-%d", shard) }

// expire expires every order of a user shard whose time to pay is over, unless another process looks for them. Whoever
// fails leaves it to another one.
func (l *Lifecycle) expire(ctx context.Context, shard int) (err error) {
	if !l.leader.Leads(ctx, expireJob(shard), expireLead+l.tuning().ExpireEvery) {
		return nil
	}
	defer func() {
		if err != nil {
			l.leader.Leave(context.WithoutCancel(ctx), expireJob(shard))
		}
	}()
	for ctx.Err() == nil {
		n, err := l.expireSome(ctx, shard)
		if err != nil {
			return err
		}
		if n > 0 {
			l.count.expired.Add(int64(n))
			l.kick(shard)
		}
		if n < batchMax {
			return nil
		}
	}
	return ctx.Err()
}

func (l *Lifecycle) expireSome(ctx context.Context, shard int) (int, error) {
	ctx, cancel := l.call(ctx)
	defer cancel()
	return l.store.ExpireDue(ctx, shard, batchMax)
}
