package lifecycle

import (
	"context"
	"fmt"
	"time"

	"sluice/lifecycle/feed"
)

// relayLead is how long a process that stopped relaying events keeps others from it.
const relayLead = 5 * time.Second

func relayJob(shard int) string { return fmt.Sprintf("events-%d", shard) }

// relay brings every event of a user shard into its feed, unless another process does: first its number, then, where
// there is a publisher, to its readers. Two that do it at once give no number twice, and publish some events twice.
func (l *Lifecycle) relay(ctx context.Context, shard int) (err error) {
	defer func() {
		if err != nil {
			l.leader.Leave(context.WithoutCancel(ctx), relayJob(shard))
		}
	}()
	for ctx.Err() == nil {
		if !l.leader.Leads(ctx, relayJob(shard), relayLead+l.tuning().EventsEvery) {
			return nil
		}
		more, err := l.number(ctx, shard)
		if err == nil {
			err = l.publish(ctx, shard)
		}
		if err != nil || !more {
			return err
		}
	}
	return ctx.Err()
}

func (l *Lifecycle) number(ctx context.Context, shard int) (more bool, err error) {
	ctx, cancel := l.call(ctx)
	defer cancel()
	given, more, err := l.store.NumberEvents(ctx, shard)
	l.count.numbered.Add(int64(given))
	return more, err
}

// publish publishes what has a number and is not known to be published, page after page.
func (l *Lifecycle) publish(ctx context.Context, shard int) error {
	for l.publisher != nil && ctx.Err() == nil {
		n, err := l.publishPage(ctx, shard)
		if err != nil || n < feed.PageMax {
			return err
		}
	}
	return ctx.Err()
}

func (l *Lifecycle) publishPage(ctx context.Context, shard int) (int, error) {
	ctx, cancel := l.call(ctx)
	defer cancel()
	published, err := l.store.FeedPublished(ctx, shard)
	if err != nil {
		return 0, err
	}
	events, err := l.store.FeedEvents(ctx, shard, published, feed.PageMax)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	if err := l.publisher.Publish(ctx, shard, events); err != nil {
		return 0, fmt.Errorf("publish %d events from number %d on: %w", len(events), events[0].Number, err)
	}
	l.count.published.Add(int64(len(events)))
	return len(events), l.store.SetFeedPublished(ctx, shard, events[len(events)-1].Number)
}
