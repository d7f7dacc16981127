package persist_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"

	"sluice/engine/order"
	"sluice/persist"
)

// at lets f publish on a flash partition of a home shard, with an offer of its own; its epoch is begun.
func (l *line) at(home int, f func()) {
	l.t.Helper()
	p, epoch, offer := l.p, l.epoch, l.offer
	defer func() { l.p, l.epoch, l.offer = p, epoch, offer }()
	ps := l.store.Partitions()
	for l.p = ps.Of(order.Flash, l.offer.Group); l.store.Home(l.p) != home; l.p = ps.Of(order.Flash, l.offer.Group) {
		made, err := l.store.CreateOffers(l.t.Context(), []order.Offer{{Shop: 1, SKU: "sku", Title: "A thing", Kind: order.Flash,
			UnitPrice: 990, Currency: "CNY", Total: 10_000}})
		check(l.t, err)
		l.offer = made[0]
	}
	switch e, begun := l.begun[l.p]; {
	case begun:
		l.epoch = e
	case l.p != p:
		l.epoch = l.begin(0)
		l.barrier(l.epoch)
		l.begun[l.p] = l.epoch
	}
	f()
}

// batchFor is batch for users of one shard.
func (l *line) batchFor(shard, n int) (ids []order.ID) {
	l.t.Helper()
	for len(ids) < n {
		for l.store.UserShard(order.UserID(l.n+1)) != shard {
			l.n++
		}
		ids = append(ids, l.batch(l.epoch, 1)...)
	}
	return ids
}

// hang lets nobody else write to a shard until release: who tries waits.
func (l *line) hang(file string) (release func()) {
	l.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(l.dir, file))
	check(l.t, err)
	conn, err := db.Conn(l.t.Context())
	check(l.t, err)
	_, err = conn.ExecContext(l.t.Context(), "BEGIN IMMEDIATE")
	check(l.t, err)
	released := false
	release = func() {
		if !released {
			released = true
			_, err := conn.ExecContext(context.Background(), "ROLLBACK")
			check(l.t, err)
			check(l.t, conn.Close())
			check(l.t, db.Close())
		}
	}
	l.t.Cleanup(release)
	return release
}

// A home shard that hangs holds up its own messages only: those of others are stored while it is waited for.
func TestHomeShardThatHangsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	l := newLineOf(t, 2)
	x, _ := l.start()
	var stuck []order.ID
	var release func()
	l.at(1, func() {
		l.awaitStored(l.batchFor(0, 1))
		awaitBacklog(t, l.queue, l.p)
		release = l.hang("shard-1.db")
		received := x.Stats().Received
		stuck = l.batchFor(0, 1)
		l.await("the message that gets stuck", func() bool { return x.Stats().Received > received })
	})
	l.at(0, func() {
		for range 3 {
			l.awaitStored(l.batchFor(0, 1))
		}
	})
	if n := x.Stats().Failures; n != 0 {
		t.Errorf("the others waited until the shard was given up: %d flushes failed", n)
	}
	release()
	l.awaitStored(stuck)
	l.at(1, func() { awaitBacklog(t, l.queue, l.p) })
}

// What gathers of a shard that stays down is bounded: the rest is left to the queue, in which others go on, and comes back
// when the shard does.
func TestMessagesOfADeadHomeShardAreLeftToTheQueue(t *testing.T) {
	t.Parallel()
	l := newLineOf(t, 2)
	file, err := sql.Open("sqlite", filepath.Join(l.dir, "shard-1.db")+"?_pragma=busy_timeout(10000)")
	check(t, err)
	defer func() { check(t, file.Close()) }()
	x := persist.New(persist.DefaultOptions(), l.queue, l.store, slog.New(slog.DiscardHandler))
	x.HoldAtMost(1000)
	check(t, x.Start(t.Context()))
	t.Cleanup(func() { check(t, x.Close(context.Background())) })
	var stuck, more []order.ID
	l.at(1, func() {
		l.awaitStored(l.batchFor(0, 1))
		awaitBacklog(t, l.queue, l.p)
		_, err = file.Exec("ALTER TABLE claimed_batch RENAME TO claimed_batch_away")
		check(t, err)
		stuck = l.batchFor(0, 50)
		l.await("a failure", func() bool { return x.Stats().Failures > 0 })
		more = l.batchFor(0, 50)
	})
	l.at(0, func() {
		for range 3 {
			l.awaitStored(l.batchFor(0, 1))
		}
	})
	stuck = append(stuck, more...)
	if n := l.stored(stuck); n > 0 {
		t.Fatalf("%d orders of the dead shard are stored", n)
	}
	_, err = file.Exec("ALTER TABLE claimed_batch_away RENAME TO claimed_batch")
	check(t, err)
	l.awaitStored(stuck)
	l.at(1, func() { awaitBacklog(t, l.queue, l.p) })
	if st := x.Stats(); st.Stored != int64(len(stuck))+4 || st.Stopped != 0 {
		t.Errorf("%+v", st)
	}
}

// What was left to the queue comes back also when the one message that was kept stops its partition.
func TestMessagesLeftToTheQueueOutliveAStop(t *testing.T) {
	t.Parallel()
	l := newLineOf(t, 4)
	file, err := sql.Open("sqlite", filepath.Join(l.dir, "shard-1.db")+"?_pragma=busy_timeout(10000)")
	check(t, err)
	defer func() { check(t, file.Close()) }()
	x := persist.New(persist.DefaultOptions(), l.queue, l.store, slog.New(slog.DiscardHandler))
	x.HoldAtMost(1000)
	check(t, x.Start(t.Context()))
	t.Cleanup(func() { check(t, x.Close(context.Background())) })
	l.at(1, func() {
		l.awaitStored(l.batchFor(0, 1))
		awaitBacklog(t, l.queue, l.p)
		_, err = file.Exec("ALTER TABLE claimed_batch RENAME TO claimed_batch_away")
		check(t, err)
		p := l.p
		for _, other := range l.store.Partitions().Each(order.Flash) {
			if l.store.Home(other) == 1 && other != p {
				l.p = other
			}
		}
		l.batch(l.epoch+1, 1) // ahead of what its home shard has begun
		l.await("a failure", func() bool { return x.Stats().Failures > 0 })
		l.p = p
		ids := l.batchFor(0, 50)
		received := x.Stats().Received
		l.await("all messages", func() bool { return x.Stats().Received >= max(received, 52) })
		_, err = file.Exec("ALTER TABLE claimed_batch_away RENAME TO claimed_batch")
		check(t, err)
		l.awaitStored(ids)
	})
	if n := x.Stats().Stopped; n != 1 {
		t.Errorf("%d partitions have stopped, want 1", n)
	}
}
