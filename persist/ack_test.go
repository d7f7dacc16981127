package persist_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/sqlitequeue"
	"sluice/persist"
	"sluice/persist/store"
)

// strictQueue looks into the store whenever its consumer acknowledges: what the queue is told to forget must be there.
type strictQueue struct {
	queue.Queue
	stored func(order.ID) bool

	mu      sync.Mutex
	orders  map[order.Partition]map[uint64][]order.ID // delivered and not acknowledged, by position
	acked   int                                       // orders
	missing []order.ID
}

func (q *strictQueue) Consumer(ctx context.Context, kind order.Kind) (queue.Consumer, error) {
	c, err := q.Queue.Consumer(ctx, kind)
	return &strictConsumer{c, q}, err
}

type strictConsumer struct {
	queue.Consumer
	queue *strictQueue
}

func (c *strictConsumer) Receive(ctx context.Context, max, maxBytes int) ([]queue.Delivery, error) {
	list, err := c.Consumer.Receive(ctx, max, maxBytes)
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	for _, d := range list {
		if c.queue.orders[d.Partition] == nil {
			c.queue.orders[d.Partition] = make(map[uint64][]order.ID)
		}
		m, err := order.DecodeMessage(append([]byte(nil), d.Body...))
		if err != nil {
			return nil, err
		}
		ids := make([]order.ID, len(m.Records))
		for i := range ids {
			ids[i] = m.Records[i].ID
		}
		c.queue.orders[d.Partition][d.Position] = ids
	}
	return list, err
}

func (c *strictConsumer) Ack(ctx context.Context, p order.Partition, position uint64) error {
	c.queue.mu.Lock()
	for at, ids := range c.queue.orders[p] {
		if at > position {
			continue
		}
		delete(c.queue.orders[p], at)
		for _, id := range ids {
			if c.queue.acked++; !c.queue.stored(id) {
				c.queue.missing = append(c.queue.missing, id)
			}
		}
	}
	c.queue.mu.Unlock()
	return c.Consumer.Ack(ctx, p, position)
}

// TestNothingIsAckedBeforeItIsRecorded: a process that dies behind an ack has nothing left to say.
func TestNothingIsAckedBeforeItIsRecorded(t *testing.T) {
	t.Parallel()
	const batches, size = 40, 25
	ctx, dir := t.Context(), t.TempDir()
	ps := order.Partitions{Normal: 1, Flash: 1}
	s, err := store.Open(ctx, store.Options{Dialect: store.SQLite, Partitions: ps, Deadline: time.Second,
		Shards: []string{filepath.Join(dir, "shard-0.db"), filepath.Join(dir, "shard-1.db")}})
	check(t, err)
	defer func() { check(t, s.Close()) }()
	file, err := sqlitequeue.Open(ctx, sqlitequeue.Options{Path: filepath.Join(dir, "queue.db"), Partitions: ps})
	check(t, err)
	defer func() { check(t, file.Close()) }()
	q := &strictQueue{Queue: file, orders: make(map[order.Partition]map[uint64][]order.ID), stored: func(id order.ID) bool {
		o, err := s.Order(ctx, id)
		return err == nil && o != nil
	}}

	made, err := s.CreateOffers(ctx, []order.Offer{{Shop: 1, SKU: "sku", Title: "A thing", Kind: order.Flash,
		UnitPrice: 990, Currency: "CNY", Total: batches * size}})
	check(t, err)
	p := ps.Each(order.Flash)[0]
	epoch, ok, err := s.BeginRebuild(ctx, p, 0, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	check(t, q.Publish(ctx, p, order.AppendBarrier(nil, p, epoch, order.Milli(epoch))))
	for b := range batches {
		var records []byte
		var first order.ID
		for i := range size {
			user := order.UserID(b*size + i + 1)
			id := order.MakeID(order.Milli(epoch)+order.Milli(b), 1, order.VirtualShard(user), uint8(i))
			if i == 0 {
				first = id
			}
			records = order.AppendRecord(records, &order.Record{ID: id, User: user, Shop: 1, Currency: "CNY",
				Key: fmt.Sprint("k", user), Group: made[0].Group,
				Items: []order.Item{{Line: order.Line{Offer: made[0].ID, Quantity: 1}, UnitPrice: 990, PriceVersion: 1, SKU: "sku"}}})
		}
		check(t, q.Publish(ctx, p, order.AppendBatch(nil, p, epoch, order.BatchID(first), records)))
	}

	x := persist.New(persist.DefaultOptions(), q, s, slog.New(slog.DiscardHandler))
	check(t, x.Start(ctx))
	awaitBacklog(t, q, p)
	check(t, x.Close(context.Background()))
	if len(q.missing) > 0 || q.acked != batches*size {
		t.Errorf("%d orders acknowledged, want %d; %d of them were not stored yet", q.acked, batches*size, len(q.missing))
	}
}

// awaitBacklog waits until everything in the partition is acknowledged.
func awaitBacklog(t *testing.T, q queue.Queue, p order.Partition) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		b, err := q.Backlog(t.Context(), p)
		check(t, err)
		switch {
		case b.Messages == 0:
			return
		case time.Now().After(end):
			t.Fatalf("%d messages are not acknowledged after 20 s", b.Messages)
		}
		time.Sleep(time.Millisecond)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
