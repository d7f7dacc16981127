package store

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"
)

// pageBytes is SQLite's page size; walBytes the size beyond which a write-ahead log is cut short.
const pageBytes = 4096

func walBytes(checkpointPages int) int64 { return 2 * int64(checkpointPages) * pageBytes }

// checkpointEvery is how often a file's write-ahead log is looked at.
const checkpointEvery = time.Second

// busyTimeoutMillis is how long a connection waits for another process, an auditor, say, that has the file.
const busyTimeoutMillis = 10_000

// keepWALShort truncates the write-ahead log of a SQLite file when nothing was written for a while, and when readers
// have kept the automatic checkpoints from starting it anew and it has outgrown its bound. It returns when ctx ends.
func (s *Store) keepWALShort(ctx context.Context, sh *shard) {
	ticker := time.NewTicker(checkpointEvery)
	defer ticker.Stop()
	last := walState{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := walStateOf(sh.path)
		idle := now.size > 0 && now == last
		if last = now; idle || now.size > walBytes(s.opts.CheckpointPages) {
			_ = s.truncateWAL(ctx, sh) // what fails now is tried again at the next look
		}
	}
}

type walState struct {
	size     int64
	modified time.Time
}

func walStateOf(path string) walState {
	info, err := os.Stat(path + "-wal")
	if err != nil {
		return walState{}
	}
	return walState{info.Size(), info.ModTime()}
}

// truncateWAL gives up at once when a reader is in the way: waiting for it would keep every writer waiting.
func (s *Store) truncateWAL(ctx context.Context, sh *shard) (err error) {
	if err := sh.turn.take(ctx, 0); err != nil {
		return err
	}
	defer sh.turn.give()
	conn, err := sh.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	_, restore := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA busy_timeout = "+strconv.Itoa(busyTimeoutMillis))
	return errors.Join(err, restore)
}
