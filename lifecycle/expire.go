package lifecycle

import "context"

// expire expires every order of a user shard whose time to pay is over.
func (l *Lifecycle) expire(ctx context.Context, shard int) error {
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
