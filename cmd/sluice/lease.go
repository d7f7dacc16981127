package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

// A node number is leased for leaseFor and renewed every leaseEvery.
const (
	leaseFor   = 60 * time.Second
	leaseEvery = 5 * time.Second
)

// nodeLease keeps a node number for this process, without which it can give no order id. It has one goroutine, which
// close waits for. The number is not given back: a lease that ends early could let another process use milliseconds
// that this one's ids already lie in.
type nodeLease struct {
	store *store.Store
	ids   *order.IDs
	log   *slog.Logger
	lease store.Lease
	stop  context.CancelFunc
	done  chan struct{}
}

// openLease leases a number and begins to renew it.
func openLease(ctx context.Context, s *store.Store, ids *order.IDs, log *slog.Logger) (*nodeLease, error) {
	l := &nodeLease{store: s, ids: ids, log: log, done: make(chan struct{})}
	for began := time.Now(); ; {
		err := l.take(ctx)
		if err == nil {
			break
		}
		// Processes that died keep their numbers until the lease has run out: many quick restarts use them all up.
		if !errors.Is(err, store.ErrNoNode) || time.Since(began) > leaseFor {
			return nil, err
		}
		log.Warn("waiting for a node number: every one is leased to processes that have been started within the last minute")
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	go l.keep(ctx)
	return l, nil
}

// take leases a new number.
func (l *nodeLease) take(ctx context.Context) error {
	host, _ := os.Hostname() // for people who read the table; the random part tells processes apart
	lease, err := l.store.LeaseNode(ctx, fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:8]), leaseFor)
	if err != nil {
		return fmt.Errorf("lease a node number: %w", err)
	}
	l.use(lease)
	return nil
}

func (l *nodeLease) use(lease store.Lease) {
	l.lease = lease
	l.ids.Lease(lease.Node, lease.Since, lease.Until)
}

// keep renews the lease until ctx ends. While the store does not answer, the lease runs on to its end and no further.
func (l *nodeLease) keep(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.renew(ctx)
	}
}

// renew renews the lease, or takes another number if somebody has this one: until it has one the process gives no ids.
func (l *nodeLease) renew(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, leaseEvery)
	defer cancel()
	lease, err := l.store.RenewNode(call, l.lease, leaseFor)
	switch {
	case err == nil:
		l.use(lease)
	case errors.Is(err, store.ErrLeaseLost):
		l.ids.Lease(0, 0, 0)
		l.log.Warn("node number lost; taking another", "node", l.lease.Node)
		err = l.take(call)
	}
	if err != nil && ctx.Err() == nil {
		l.log.Warn("node lease not renewed", "node", l.lease.Node, "until", l.lease.Until.Time(), "error", err)
	}
}

func (l *nodeLease) close() {
	l.stop()
	<-l.done
}
