package store

import (
	"context"
	"os"
	"time"
)

// pageBytes is SQLite's page size; walBytes the size beyond which a write-ahead log is cut short.
const pageBytes = 4096

func walBytes(checkpointPages int) int64 { return 2 * int64(checkpointPages) * pageBytes }

// checkpointEvery is how often a file's write-ahead log is looked at.
const checkpointEvery = time.Second

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

func (s *Store) truncateWAL(ctx context.Context, sh *shard) error {
	if err := sh.turn.take(ctx, 0); err != nil {
		return err
	}
	defer sh.turn.give()
	// Not to be interrupted: database/sql would throw the connection away, and what is prepared on it.
	_, err := sh.write.ExecContext(context.WithoutCancel(ctx), "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}
