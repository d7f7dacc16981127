package store

import (
	"context"
	"testing"
	"time"
)

func TestWALIsTruncated(t *testing.T) {
	t.Parallel()
	o := testOptions(t, SQLite, 1)
	o.CheckpointPages = 10
	s := openStore(t, o)
	ctx := context.Background()
	size := func() int64 { return walStateOf(s.shards[0].path).size }

	// A reader keeps its snapshot, so no checkpoint can start the log anew.
	reader, err := s.shards[0].read.BeginTx(ctx, nil)
	noError(t, err)
	var n int
	noError(t, reader.QueryRow("SELECT COUNT(*) FROM fact").Scan(&n))
	begun := time.Now()
	for i := 0; size() <= walBytes(o.CheckpointPages) || time.Since(begun) < 2*checkpointEvery; i++ {
		wrote := time.Now()
		noError(t, s.update(ctx, 0, 0, func(t *tx) error {
			_, err := t.exec("INSERT INTO fact (name, value) VALUES (?, hex(randomblob(4000)))", i)
			return err
		}))
		if d := time.Since(wrote); d > busyTimeoutMillis/2*time.Millisecond {
			t.Fatalf("a writer waited %v because of a reader", d)
		}
	}
	noError(t, reader.Rollback())
	for start := time.Now(); size() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("the log still has %d bytes", size())
		}
	}
}
