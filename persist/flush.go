package persist

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/internal/crash"
	"sluice/persist/store"
)

// flush claims, records and settles messages of one home shard.
func (c *consumer) flush(home int, items []item) error {
	messages := make([]*order.Message, 0, len(items))
	for i := range items {
		if m := items[i].message; m != nil {
			messages = append(messages, m)
		}
	}
	began := time.Now()
	rows, err := c.claim(home, messages)
	claimed := time.Now()
	if err == nil {
		err = c.record(home, rows)
	}
	if err == nil {
		crash.At("record")
		err = c.settle(home, messages)
	}
	c.trace(messages, began, claimed, err)
	if err != nil {
		return fmt.Errorf("home shard %d: %w", home, err)
	}
	c.stats.flush(rows, time.Since(began))
	return nil
}

// claim decides the batches and returns the rows to record.
func (c *consumer) claim(home int, messages []*order.Message) ([]store.Row, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.tuning().RecordTimeout)
	defer cancel()
	verdicts, err := c.store.Claim(ctx, home, messages)
	if err != nil {
		return nil, fmt.Errorf("claim %d messages: %w", len(messages), err)
	}
	crash.At("claim")
	var rows []store.Row
	for i, m := range messages {
		if verdicts[i].Stale {
			continue
		}
		rejects := verdicts[i].Rejects
		for j := range m.Records {
			row := store.Row{Record: &m.Records[j], Batch: m.Batch, Epoch: m.Epoch, Partition: m.Partition,
				Status: order.AwaitingPayment}
			if len(rejects) > 0 && rejects[0].Index == j {
				row.Status, row.Reason = order.Rejected, rejects[0].Reason
				rejects = rejects[1:]
			}
			rows = append(rows, row)
		}
		if len(rejects) > 0 {
			panic("BUG: a verdict rejects an order that its batch does not have")
		}
	}
	return rows, nil
}

// record writes rows to their user shards, and what a shard does not take to the home shard's parked orders.
func (c *consumer) record(home int, rows []store.Row) error {
	byShard := make([][]store.Row, c.store.Shards())
	for i := range rows {
		shard := c.store.UserShard(rows[i].Record.User)
		byShard[shard] = append(byShard[shard], rows[i])
	}
	errs := make([]error, len(byShard))
	var wg sync.WaitGroup
	for shard, part := range byShard {
		if len(part) == 0 {
			continue
		}
		wg.Add(1)
		task := func() {
			defer wg.Done()
			errs[shard] = c.recordOrPark(home, shard, part)
		}
		if err := c.writers.Submit(task); err != nil {
			wg.Done()
			errs[shard] = fmt.Errorf("writers: %w", err)
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *consumer) recordOrPark(home, shard int, rows []store.Row) error {
	if !c.down[shard].Load() {
		poison, err := c.recordAt(shard, rows)
		if err == nil {
			return c.parkPoison(home, shard, rows, poison)
		}
		c.down[shard].Store(true)
		c.log.Error("user shard is down: its orders are parked", "shard", shard, "orders", len(rows), "error", err)
	}
	c.stats.parked.Add(int64(len(rows)))
	return c.park(home, shard, rows, nil)
}

// recordAt writes rows to one user shard.
func (p *Persist) recordAt(shard int, rows []store.Row) ([]store.Poison, error) {
	tuning := p.tuning()
	ctx, cancel := context.WithTimeout(context.Background(), tuning.RecordTimeout)
	defer cancel()
	kind := p.store.Partitions().Kind(rows[0].Partition)
	done, err := p.store.Record(ctx, shard, rows, store.RecordOptions{Kind: kind, Unpaid: tuning.Unpaid})
	if err != nil {
		return nil, err
	}
	p.stats.stored.Add(int64(done.Stored))
	p.stats.duplicates.Add(int64(done.Duplicates))
	if done.Alarms > 0 {
		p.stats.alarms.Add(int64(done.Alarms))
		p.log.Error("an order id came in two batches: the second claim is given back", "shard", shard, "orders", done.Alarms)
	}
	return done.Poison, nil
}

// park keeps rows of a user shard on the home shard. poison, if any, are the rows that the shard refused, with why.
func (p *Persist) park(home, shard int, rows []store.Row, poison []store.Poison) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.tuning().RecordTimeout)
	defer cancel()
	parked := make([]store.ParkedOrder, len(rows))
	for i := range rows {
		r := &rows[i]
		parked[i] = store.ParkedOrder{Order: r.Record.ID, Batch: r.Batch, Shard: shard, Partition: r.Partition, Epoch: r.Epoch,
			Status: r.Status, Reason: r.Reason, Bytes: order.AppendRecord(nil, r.Record)}
		if poison != nil {
			parked[i].Error = poison[i].Err
		}
	}
	err := p.store.Park(ctx, home, parked)
	p.parked[home].Store(true) // after the commit, or what may be one: a sweep that looked before it saw nothing
	if err != nil {
		return fmt.Errorf("park %d orders of shard %d: %w", len(rows), shard, err)
	}
	return nil
}

// parkPoison parks the rows that the shard refused.
func (p *Persist) parkPoison(home, shard int, rows []store.Row, poison []store.Poison) error {
	if len(poison) == 0 {
		return nil
	}
	refused := make([]store.Row, len(poison))
	for i := range poison {
		refused[i] = rows[poison[i].Index]
		p.log.Error("poison order parked", "order", refused[i].Record.ID.String(), "shard", shard, "error", poison[i].Err)
	}
	p.stats.poison.Add(int64(len(poison)))
	return p.park(home, shard, refused, poison)
}

// settle says on the home shard how far the queue is done: up to the last barrier of each partition, but not beyond
// an epoch of which something is parked.
func (c *consumer) settle(home int, messages []*order.Message) error {
	barriers := make(map[order.Partition]*order.Message)
	for _, m := range messages {
		if m.Kind == order.BarrierMessage {
			if b := barriers[m.Partition]; b == nil || m.Epoch > b.Epoch || m.Epoch == b.Epoch && m.At > b.At {
				barriers[m.Partition] = m
			}
		}
	}
	if len(barriers) == 0 {
		return nil
	}
	settled := make([]store.Settled, 0, len(barriers))
	c.settledMu.Lock()
	for partition, m := range barriers {
		c.settled[partition] = max(c.settled[partition], m.Epoch)
		settled = append(settled, store.Settled{Partition: partition, Recorded: c.settled[partition], SettledAt: m.At})
	}
	c.settledMu.Unlock()
	return c.settleAt(home, settled)
}

func (p *Persist) settleAt(home int, settled []store.Settled) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.tuning().RecordTimeout)
	defer cancel()
	lowest, err := p.store.ParkedEpochs(ctx, home)
	if err != nil {
		return fmt.Errorf("read the epochs of parked orders: %w", err)
	}
	for i := range settled {
		if e, ok := lowest[settled[i].Partition]; ok {
			settled[i].Recorded = min(settled[i].Recorded, e)
		}
	}
	if err := p.store.Settle(ctx, settled); err != nil {
		return fmt.Errorf("settle %d partitions: %w", len(settled), err)
	}
	return nil
}
