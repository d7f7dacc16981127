package lifecycle

import (
	"context"
	"maps"
	"slices"
	"time"

	"sluice/persist/store"
)

// putOff is how long a give-back waits after it failed.
const putOff = 2 * time.Second

// giveBack gives back everything that is due on a user shard.
func (l *Lifecycle) giveBack(ctx context.Context, shard int) error {
	for ctx.Err() == nil {
		n, err := l.giveBackSome(ctx, shard)
		if err != nil || n < batchMax {
			return err
		}
	}
	return ctx.Err()
}

// giveBackSome gives back one batch of what is due and returns its size.
func (l *Lifecycle) giveBackSome(ctx context.Context, shard int) (int, error) {
	due, err := l.due(ctx, shard)
	if err != nil || len(due) == 0 {
		return 0, err
	}
	homes := make(map[int][]store.GiveBack)
	for i := range due {
		home := l.store.Home(due[i].Partition)
		homes[home] = append(homes[home], due[i])
	}
	for _, home := range slices.Sorted(maps.Keys(homes)) {
		if err := l.settle(ctx, shard, home, homes[home]); err != nil {
			return 0, err
		}
	}
	return len(due), nil
}

// settle gives back on one home shard and marks the events. If the whole fails it tries halves, so that one bad row
// holds up only itself; what fails alone is put off. An error is one of the user shard.
func (l *Lifecycle) settle(ctx context.Context, shard, home int, g []store.GiveBack) error {
	err := l.giveBackAt(ctx, home, g)
	switch {
	case err == nil:
		if err := l.handled(ctx, shard, g); err != nil {
			return err
		}
		l.count.givenBack.Add(int64(len(g)))
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case len(g) == 1 || !store.GiveBackRefused(err):
		l.count.giveBackFailures.Add(int64(len(g)))
		l.log.Error("give-backs put off", "shard", home, "give_backs", len(g), "order", g[0].Order.String(), "error", err)
		return l.later(ctx, shard, g)
	}
	half := len(g) / 2
	if err := l.settle(ctx, shard, home, g[:half]); err != nil {
		return err
	}
	return l.settle(ctx, shard, home, g[half:])
}

func (l *Lifecycle) due(ctx context.Context, shard int) ([]store.GiveBack, error) {
	ctx, cancel := l.call(ctx)
	defer cancel()
	return l.store.GiveBacksDue(ctx, shard, batchMax)
}

func (l *Lifecycle) giveBackAt(ctx context.Context, home int, g []store.GiveBack) error {
	ctx, cancel := l.call(ctx)
	defer cancel()
	return l.store.GiveBack(ctx, home, g)
}

func (l *Lifecycle) handled(ctx context.Context, shard int, g []store.GiveBack) error {
	ctx, cancel := l.call(ctx)
	defer cancel()
	return l.store.GaveBack(ctx, shard, g)
}

func (l *Lifecycle) later(ctx context.Context, shard int, g []store.GiveBack) error {
	ctx, cancel := l.call(ctx)
	defer cancel()
	return l.store.PutOffGiveBacks(ctx, shard, g, putOff)
}
