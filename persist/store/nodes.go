package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sluice/engine/order"
)

// Lease is the right to put a node number and the milliseconds of [Since, Until) into order ids.
type Lease struct {
	Node  uint8
	Owner string
	Since order.Milli
	Until order.Milli
}

// ErrLeaseLost says that the node number belongs to somebody else now. ErrNoNode says that every number is leased.
var (
	ErrLeaseLost = errors.New("the lease of the node number is lost")
	ErrNoNode    = errors.New("every node number is leased")
)

// LeaseNode leases a free number for d to owner, a name that no other process has: the number that has been free for
// longest. The interval starts where the number's last one ended, or now.
func (s *Store) LeaseNode(ctx context.Context, owner string, d time.Duration) (Lease, error) {
	var l Lease
	err := s.update(ctx, 0, 0, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var until order.Milli
		l = Lease{Owner: owner, Until: now + order.Milli(d.Milliseconds())}
		err = t.row("SELECT n, until_at FROM node WHERE until_at <= ? ORDER BY until_at, n LIMIT 1"+t.d.forUpdate, now).Scan(&l.Node, &until)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoNode
		}
		if err != nil {
			return err
		}
		l.Since = max(now, until)
		n, err := t.exec("UPDATE node SET owner = ?, since_at = ?, until_at = ? WHERE n = ? AND until_at = ?",
			l.Owner, l.Since, l.Until, l.Node, until)
		if err == nil && n != 1 {
			panic("BUG: a locked node row changed")
		}
		return err
	})
	if err != nil {
		return Lease{}, fmt.Errorf("lease a node number: %w", err)
	}
	return l, nil
}

// RenewNode moves the end of a lease to d from now, never back. ErrLeaseLost: it is somebody else's by now. It may be
// renewed after it ran out, as long as nobody has taken the number.
func (s *Store) RenewNode(ctx context.Context, l Lease, d time.Duration) (Lease, error) {
	err := s.update(ctx, 0, 0, func(t *tx) error {
		var owner string
		var since, until order.Milli
		err := t.row("SELECT owner, since_at, until_at FROM node WHERE n = ?"+t.d.forUpdate, l.Node).Scan(&owner, &since, &until)
		if err != nil {
			return err
		}
		if owner != l.Owner || since != l.Since {
			return ErrLeaseLost
		}
		now, err := t.now()
		if err != nil {
			return err
		}
		l.Until = max(until, now+order.Milli(d.Milliseconds()))
		_, err = t.exec("UPDATE node SET until_at = ? WHERE n = ?", l.Until, l.Node)
		return err
	})
	if err != nil {
		return Lease{}, fmt.Errorf("renew node number %d: %w", l.Node, err)
	}
	return l, nil
}
