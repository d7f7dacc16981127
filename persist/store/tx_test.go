package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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
		// A lock that does not come has undone its own statement only: this one must not be left behind.
		if _, err := t.exec("UPDATE node SET since_at = since_at + 1 WHERE n = 3"); err != nil {
			return err
		}
		_, err := t.exec("UPDATE node SET since_at = since_at + 1 WHERE n IN (4, 5)")
		return err
	}))
	if runs != 2 {
		t.Errorf("%d runs, want 2", runs)
	}
	var sum int
	noError(t, s.shards[0].read.QueryRow("SELECT SUM(since_at) FROM node").Scan(&sum))
	if sum != 3 {
		t.Errorf("the rows say %d, want 3: each of three once", sum)
	}
}

// A process that is frozen in the middle of a transaction holds nobody up for long, and what it was about to do takes effect
// once when it goes on.
func TestFrozenTransactionLetsGo(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	o.Shards[0] += "?wait_timeout=1"
	s := openStore(t, o)
	add := func(t *tx) error {
		_, err := t.exec("UPDATE node SET since_at = since_at + 1 WHERE n = 5")
		return err
	}
	runs := 0
	noError(t, s.update(context.Background(), 0, 0, func(tx *tx) error {
		if err := add(tx); err != nil {
			return err
		}
		if runs++; runs == 1 {
			other, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := s.update(other, 0, 0, add); err != nil { // all that while nothing is said here
				t.Errorf("beside a transaction that says nothing: %v", err)
			}
		}
		_, err := tx.exec("UPDATE node SET since_at = since_at + 1 WHERE n = 6")
		return err
	}))
	if runs != 2 {
		t.Errorf("%d runs, want 2", runs)
	}
	var sum int
	noError(t, s.shards[0].read.QueryRow("SELECT SUM(since_at) FROM node").Scan(&sum))
	if sum != 3 {
		t.Errorf("the rows say %d, want 3", sum)
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

// What goes wrong below database/sql ends its transaction, and nobody waits for the end of it: a connection that is
// lost there is one that is lost, and a panic is one.
func TestRawEnds(t *testing.T) {
	onDialects(t, func(t *testing.T, dialect Dialect) {
		s := newStore(t, dialect, 1)
		runs := 0
		err := s.update(context.Background(), 0, 0, func(t *tx) error {
			if runs++; runs < lostRunsMax {
				return t.raw(func(any) error { return driver.ErrBadConn })
			}
			return nil
		})
		if err != nil || runs != lostRunsMax {
			t.Errorf("%d runs: %v", runs, err)
		}
		panicked := func() (why any) {
			defer func() { why = recover() }()
			return s.update(context.Background(), 0, 0, func(t *tx) error {
				return t.raw(func(any) error { panic("BUG: a test's") })
			})
		}()
		if text, ok := panicked.(string); !ok || !strings.Contains(text, "BUG: a test's") || !strings.Contains(text, "TestRawEnds") {
			t.Errorf("the panic became %v", panicked)
		}
		noError(t, s.update(context.Background(), 0, 0, func(*tx) error { return nil }))
	})
}
