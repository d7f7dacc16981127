package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// lateQueue holds one batch back between reserve and publish, as long as the test wants: its engine sleeps.
type lateQueue struct {
	queue.Queue
	armed    atomic.Bool
	caught   chan *order.Message
	wake     chan struct{}
	returned atomic.Bool // the late publication has
}

func newLateQueue(q queue.Queue) *lateQueue {
	return &lateQueue{Queue: q, caught: make(chan *order.Message, 1), wake: make(chan struct{})}
}

func (q *lateQueue) Publish(ctx context.Context, p order.Partition, message []byte) error {
	m, err := order.DecodeMessage(bytes.Clone(message))
	if err != nil || m.Kind != order.BatchMessage || !q.armed.CompareAndSwap(true, false) {
		return q.Queue.Publish(ctx, p, message)
	}
	q.caught <- m
	<-q.wake
	defer q.returned.Store(true)
	return q.Queue.Publish(context.WithoutCancel(ctx), p, message) // a sleeper does not know how late it is
}

// oversleep lets an engine sleep between reserve and publish until its partition has been rebuilt, which begin sees to,
// and returns what it then published late.
func (u *upheaval) oversleep(late *lateQueue, begin func(order.Partition)) (slept *order.Message, broken time.Time) {
	u.t.Helper()
	late.returned.Store(false)
	late.armed.Store(true)
	select {
	case slept = <-late.caught:
	case <-time.After(time.Minute):
		u.t.Fatal("no batch was published within a minute")
	}
	broken = time.Now()
	begin(slept.Partition)
	u.await("the rebuild", func() bool {
		e, err := strconv.ParseUint(u.shop.epochs()[int(slept.Partition)], 10, 64)
		return err == nil && order.Epoch(e) > slept.Epoch
	})
	late.wake <- struct{}{}
	return slept, broken
}

// oversleptLoss: Redis loses everything meanwhile, the outbox too. What is published late is cut off, and its units are
// back. While orders of its epoch are parked, because their user shard is down, its own are stored as rejected; otherwise
// everything of that epoch is settled, and it leaves no trace.
func (u *upheaval) oversleptLoss(late *lateQueue, parked bool) {
	name := "oversleeping a rebuild, Redis was flushed"
	if parked {
		name += ", a shard is down"
	}
	var slept *order.Message
	u.suffer(name, func() (broken time.Time) {
		mend := func() {}
		slept, broken = u.oversleep(late, func(p order.Partition) {
			if parked {
				mend = u.park(p)
			}
			u.redis.Do("FLUSHALL")
		})
		u.await("what is published late", func() bool { return late.returned.Load() })
		mend()
		return broken
	})
	if parked {
		u.fate(slept, "rejected", "cut")
	}
	for _, r := range slept.Records {
		if n := u.count(func(e *sight) bool { return e.accepted() && e.Order == r.ID }); n > 0 {
			u.t.Errorf("order %d was published after the cut, and its buyer was told that it is placed", r.ID)
		}
	}
}

// park kills a database server that is not the home of a partition, and waits until orders of the partition are parked.
func (u *upheaval) park(p order.Partition) (mend func()) {
	u.t.Helper()
	const normal = 4 // partitions
	home := int(p) % normal % len(u.shards)
	db := u.shards[home].Open(fmt.Sprint("sluice_", home))
	defer func() { _ = db.Close() }()
	s := u.shards[(home+1)%len(u.shards)]
	s.Kill()
	u.await("parked orders", func() (any bool) {
		err := db.QueryRow("SELECT EXISTS (SELECT 1 FROM parked WHERE p = ?)", p).Scan(&any)
		return err == nil && any
	})
	return s.Start
}

// oversleptRebuild: fast stock is intact. The rebuild publishes what it finds in the outbox, and the sleeper's copy changes
// nothing.
func (u *upheaval) oversleptRebuild(late *lateQueue) {
	var slept *order.Message
	u.suffer("oversleeping a rebuild of what is intact", func() (broken time.Time) {
		slept, broken = u.oversleep(late, func(p order.Partition) {
			u.shop.must(202, "POST", u.shop.ops+"/ops/rebuild", u.shop.secrets.OpsToken, fmt.Sprintf(`{"partitions":[%d]}`, p))
		})
		return broken
	})
	u.fate(slept, "awaiting_payment", "")
}

// fate checks how the orders of a batch are stored. Their buyers may have cancelled since.
func (u *upheaval) fate(m *order.Message, status, reason string) {
	u.t.Helper()
	for i := range m.Records {
		id := m.Records[i].ID
		a := u.shop.must(200, "GET", fmt.Sprintf("%s/ops/orders/%d", u.shop.ops, id), u.shop.secrets.OpsToken, "")
		if got := a.field("status"); got != status && (got != "cancelled" || status != "awaiting_payment") || a.field("reason") != reason {
			u.t.Errorf("order %d of the batch that came late is %s, want %s %s", id, a, status, reason)
		}
	}
}
