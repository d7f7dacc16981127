package store

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"sluice/engine/order"
)

// Two transactions that lock two rows in opposite order deadlock; the one that is rolled back runs again.
func TestDeadlockRunsAgain(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	s := newStore(t, MySQL, 1)
	var runs atomic.Int64
	var both sync.WaitGroup // both hold their first row
	both.Add(2)
	race(2, func(i int) {
		mine := 0
		err := s.update(context.Background(), 0, 0, func(t *tx) error {
			runs.Add(1)
			mine++
			lock := func(n int) error {
				_, err := t.exec("UPDATE node SET since_at = since_at + 1 WHERE n = ?", n)
				return err
			}
			if err := lock(i); err != nil {
				return err
			}
			if mine == 1 {
				both.Done()
				both.Wait()
			}
			return lock(1 - i)
		})
		if err != nil {
			t.Error(err)
		}
	})
	if runs.Load() < 3 {
		t.Errorf("%d runs: there was no deadlock", runs.Load())
	}
	var sum int
	noError(t, s.shards[0].read.QueryRow("SELECT SUM(since_at) FROM node").Scan(&sum))
	if sum != 4 {
		t.Errorf("the rows say %d, want 4: each transaction took effect once", sum)
	}
}

func TestLockTimeoutRunsAgain(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	o.Shards[0] += "?innodb_lock_wait_timeout=1"
	s := openStore(t, o)
	holder, err := s.shards[0].read.Begin()
	noError(t, err)
	defer func() { _ = holder.Rollback() }()
	_, err = holder.Exec("UPDATE node SET owner = 'x' WHERE n = 5")
	noError(t, err)
	runs := 0
	noError(t, s.update(context.Background(), 0, 0, func(t *tx) error {
		runs++
		if runs == 2 {
			_ = holder.Rollback()
		}
		_, err := t.exec("UPDATE node SET since_at = since_at + 1 WHERE n IN (4, 5)")
		return err
	}))
	if runs != 2 {
		t.Errorf("%d runs, want 2", runs)
	}
	var sum int
	noError(t, s.shards[0].read.QueryRow("SELECT SUM(since_at) FROM node").Scan(&sum))
	if sum != 2 {
		t.Errorf("the rows say %d, want 2", sum)
	}
}

func TestErrorsAreNotRepeated(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		s := newStore(t, d, 1)
		runs := 0
		boom := errors.New("boom")
		err := s.update(context.Background(), 0, 0, func(t *tx) error {
			runs++
			if _, err := t.exec("UPDATE node SET since_at = 7"); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) || runs != 1 {
			t.Errorf("%d runs, %v", runs, err)
		}
		var sum int
		noError(t, s.shards[0].read.QueryRow("SELECT SUM(since_at) FROM node").Scan(&sum))
		if sum != 0 {
			t.Error("it was not rolled back")
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.update(ctx, 0, 0, func(*tx) error { return nil }); d == MySQL && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before it began: %v", err)
		}
	})
}

// lossyConn loses the connection around the n-th COMMIT: before it reaches the server, or after.
type lossyConn struct {
	net.Conn
	lossy *lossy
	lost  bool
}

type lossy struct {
	commits atomic.Int64 // counts down; the connection of the one that makes it zero is lost
	arrives bool         // the server gets that COMMIT
}

func (c *lossyConn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "COMMIT") && c.lossy.commits.Add(-1) == 0 {
		c.lost = true
		if !c.lossy.arrives {
			_ = c.Conn.Close()
			return len(b), nil
		}
	}
	return c.Conn.Write(b)
}

func (c *lossyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b) // the answer is there: the server has done it
	if c.lost {
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// A COMMIT whose answer is lost is repeated, whether the server has executed it or not, and takes effect once.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	for _, arrives := range []bool{true, false} {
		l := &lossy{arrives: arrives}
		network := "lossy" + strings.ToLower(rand.Text())
		mysql.RegisterDialContext(network, func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			return &lossyConn{Conn: c, lossy: l}, err
		})
		x, ids := newSaleOn(t, lossyOptions(t, network), [2]int64{10, 3})
		lose := func() { l.commits.Store(1) }
		lost := func(what string) {
			t.Helper()
			if l.commits.Load() > 0 {
				t.Errorf("%s: no COMMIT was lost", what)
			}
		}

		lose()
		m := x.batch(users(1, 2), int(ids[0]), 2)
		if v := x.claim(m); len(v[0].Rejects) > 0 {
			t.Errorf("verdict %+v", v)
		}
		lost("claim")
		x.expect(ids[0], 6, map[order.UserID]int64{1: 2, 2: 2})

		lose()
		o, err := x.ChangeOffer(context.Background(), ids[0], OfferChange{Total: ptr(int64(13)), UnitPrice: nil})
		if err != nil || o.Total != 13 {
			t.Errorf("raised to %d: %v", o.Total, err)
		}
		lost("change")
		x.expect(ids[0], 9, nil)
		if p := x.part(); p.Logged != 2 {
			t.Errorf("logged %d, want 2", p.Logged)
		}

		for nth := int64(1); nth <= 2; nth++ { // the one for the ids, the one for the offers
			l.commits.Store(nth)
			list, err := x.CreateOffers(context.Background(), []order.Offer{tea(1), tea(1)})
			noError(t, err)
			lost("create")
			p := x.partition(&list[0])
			stored, err := x.Offers(context.Background(), p, list[0].ID-1, 10)
			noError(t, err)
			if len(stored) != 2 || stored[0] != list[0] || stored[1] != list[1] || stored[0].Created != uint64(nth) {
				t.Errorf("created %+v, stored %+v", list, stored)
			}
		}

		lose()
		first, err := x.LeaseNode(context.Background(), "a", 1<<40)
		noError(t, err)
		lost("lease")
		lose()
		renewed, err := x.RenewNode(context.Background(), first, 1<<41)
		if err != nil || renewed.Until <= first.Until {
			t.Errorf("renewed %+v: %+v %v", first, renewed, err)
		}
		lost("renew")
	}
}

func lossyOptions(t *testing.T, network string) Options {
	o := testOptions(t, MySQL, 2)
	for i, dsn := range o.Shards {
		o.Shards[i] = strings.Replace(dsn, "@tcp(", "@"+network+"(", 1)
	}
	return o
}
