package sqlitequeue_test

import (
	"path/filepath"
	"sync"
	"testing"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/queuetest"
	"sluice/engine/queue/sqlitequeue"
)

var partitions = order.Partitions{Normal: 3, Flash: 2}

func open(t testing.TB, o sqlitequeue.Options) *sqlitequeue.Queue {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "queue.db")
	}
	if o.Partitions.Count() == 0 {
		o.Partitions = partitions
	}
	q, err := sqlitequeue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func harness(o sqlitequeue.Options) queuetest.Harness {
	var paths sync.Map // of each queue, for Reopen
	at := func(t *testing.T, path string) queue.Queue {
		mine := o
		mine.Path = path
		q := open(t, mine)
		paths.Store(queue.Queue(q), path)
		return q
	}
	return queuetest.Harness{
		Partitions: partitions,
		New:        func(t *testing.T) queue.Queue { return at(t, filepath.Join(t.TempDir(), "queue.db")) },
		Reopen: func(t *testing.T, q queue.Queue) queue.Queue {
			if err := q.Close(); err != nil {
				t.Fatal("close: ", err)
			}
			path, _ := paths.Load(q)
			return at(t, path.(string))
		},
		Small:        small,
		ExactAcks:    true,
		ExactBacklog: true,
		BacklogAge:   true,
		OneConsumer:  true,
	}
}

func TestQueue(t *testing.T) {
	t.Run("Default", func(t *testing.T) { queuetest.Run(t, harness(sqlitequeue.Options{})) })
	// With next to no memory and WAL, every message goes through the file and every commit waits for a checkpoint.
	t.Run("Tight", func(t *testing.T) {
		h := harness(sqlitequeue.Options{MemoryMax: 1500, WALMax: 128 << 10})
		h.Small = small / 10
		queuetest.Run(t, h)
	})
}
