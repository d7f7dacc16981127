package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/persist/store"
)

// TestLeaseWaitsForANumber: restarts in quick succession use all node numbers up; the next one waits for the first that
// comes free instead of giving up.
func TestLeaseWaitsForANumber(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Options{Dialect: store.SQLite, Shards: []string{filepath.Join(t.TempDir(), "shard-0.db")},
		Partitions: order.Partitions{Normal: 1, Flash: 1}, Deadline: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
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
