package rocketqueue

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/rlog"

	"sluice/engine/order"
	"sluice/engine/queue"
	"sluice/engine/queue/queuetest"
	"sluice/persist/store"
)

func TestMain(m *testing.M) {
	if queue := os.Getenv(childQueue); queue != "" {
		consumeForEver(queue)
	}
	rlog.SetLogLevel("fatal") // what it says of a broker that is killed helps nobody
	primitive.PanicHandler = func(v any) { panic(fmt.Sprint("BUG: the client panicked: ", v)) }
	os.Exit(m.Run())
}

var partitions = order.Partitions{Normal: 3, Flash: 2}

// nameServer is that of the shared broker. Without it the test is skipped; in CI that is a failure.
func nameServer(t testing.TB) string {
	t.Helper()
	addr := os.Getenv("SLUICE_TEST_ROCKETMQ")
	if addr == "" && os.Getenv("SLUICE_CI") == "1" {
		t.Fatal("SLUICE_TEST_ROCKETMQ is not set, and in CI nothing is skipped")
	}
	if addr == "" {
		t.Skip("SLUICE_TEST_ROCKETMQ names no name server: deploy/local/up DIR rocketmq")
	}
	return addr
}

// letters opens a store for dead letters.
func letters(t testing.TB) Letters {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dialect: store.SQLite, Shards: []string{filepath.Join(t.TempDir(), "shard.db")},
		Partitions: partitions, Deadline: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Letters()
}

// options are those of a new deployment.
func options(t testing.TB) Options {
	t.Helper()
	return Options{NameServers: []string{nameServer(t)}, Name: "test-" + strings.ToLower(rand.Text()),
		MemoryMax: 8 << 20, Partitions: partitions, Letters: letters(t)}
}

func open(t testing.TB, o Options) *Queue {
	t.Helper()
	q, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

// TestQueue runs the suite. Each test has topics of its own.
func TestQueue(t *testing.T) {
	nameServer(t)
	small := 20_000
	if testing.Short() {
		small = 2_000
	}
	var made sync.Map
	at := func(t *testing.T, o Options) queue.Queue {
		q := open(t, o)
		made.Store(queue.Queue(q), o)
		return q
	}
	queuetest.Run(t, queuetest.Harness{
		Partitions: partitions,
		New:        func(t *testing.T) queue.Queue { return at(t, options(t)) },
		Reopen: func(t *testing.T, q queue.Queue) queue.Queue {
			if err := q.Close(); err != nil {
				t.Fatal("close: ", err)
			}
			o, _ := made.Load(q)
			return at(t, o.(Options))
		},
		Small:        small,
		Quiet:        200 * time.Millisecond,
		ExactAcks:    true,
		ExactBacklog: true,
		BacklogAge:   true,
	})
}

func publish(t testing.TB, q *Queue, p order.Partition, texts ...string) {
	t.Helper()
	for _, text := range texts {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := q.Publish(ctx, p, []byte(text)); err != nil {
			t.Fatalf("publish %s: %v", text, err)
		}
		cancel()
	}
}
