package main

import (
	"os"
	"path/filepath"
	"testing"

	"sluice/configs"
	"sluice/engine/order"
)

// TestQueueThatDoesNotOpen: whoever opens a queue gets the reason or the queue. A nil *sqlitequeue.Queue in the
// interface would be neither: closing it would hide the reason behind a crash.
func TestQueueThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, c := newDrivers(), &configs.Config{DataDir: file} // not a directory
	d.sqlitequeue.Path = "queue.db"
	c.Engine.Partitions = order.Partitions{Normal: 1, Flash: 1}
	if q, err := d.openQueue(t.Context(), c, nil); q != nil || err == nil {
		t.Errorf("opened %v, %v", q, err)
	}
}
