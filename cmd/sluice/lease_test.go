package main

import (
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

func leaseStore(t *testing.T) (s *store.Store, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "shard-0.db")
	s, err := store.Open(t.Context(), store.Options{Dialect: store.SQLite, Shards: []string{path},
		Partitions: order.Partitions{Normal: 1, Flash: 1}, Deadline: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

// TestLeaseLost: whose number somebody else has gives no id with it, and none at all until it has another number.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	s, path := leaseStore(t)
	ids := order.NewIDs(nil)
	l := &nodeLease{store: s, ids: ids, log: slog.New(slog.DiscardHandler)}
	if err := l.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	steal := func() {
		if _, err := db.Exec("UPDATE node SET owner = 'thief' WHERE n = ?", l.lease.Node); err != nil {
			t.Fatal(err)
		}
	}
	lost := l.lease.Node
	steal()
	l.renew(t.Context())
	if id, err := ids.Next(1); err != nil || id.Node() == lost {
		t.Errorf("after the loss of number %d: id %s, %v", lost, id, err)
	}
	for n := range order.NodesMax - 2 {
		if _, err := s.LeaseNode(t.Context(), fmt.Sprint("other-", n), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	steal()
	l.renew(t.Context())
	if id, err := ids.Next(1); err == nil || ids.Ready() {
		t.Errorf("without a number: id %s, ready %t", id, ids.Ready())
	}
	if _, err := db.Exec("UPDATE node SET until_at = 0 WHERE n = ?", lost); err != nil {
		t.Fatal(err)
	}
	l.renew(t.Context())
	if _, err := ids.Next(1); err != nil || l.lease.Node != lost {
		t.Errorf("with number %d, when %d came free: %v", l.lease.Node, lost, err)
	}
}

// TestLeaseWaitsForANumber: restarts in quick succession use all node numbers up; the next one waits for the first that
// comes free instead of giving up.
func TestLeaseWaitsForANumber(t *testing.T) {
	t.Parallel()
	s, _ := leaseStore(t)
	var first store.Lease
	for n := range order.NodesMax {
		lease, err := s.LeaseNode(t.Context(), fmt.Sprint("dead-", n), 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first = lease
		}
	}
	ids := order.NewIDs(nil)
	l, err := openLease(t.Context(), s, ids, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if l.lease.Since < first.Until {
		t.Errorf("leased from %d, the earliest lease ran until %d", l.lease.Since, first.Until)
	}
	if _, err := ids.Next(1); err != nil {
		t.Error(err)
	}
}
