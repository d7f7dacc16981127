package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sluice/internal/lockfile"
)

// lockDir makes the data directory if it is not there and locks it: one process at a time, and none while it holds a part
// of a backup only.
func lockDir(dir string) (*lockfile.Lock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	l, err := lockfile.Take(filepath.Join(dir, "lock"))
	var held *lockfile.HeldError
	if errors.As(err, &held) {
		return nil, fmt.Errorf("data directory %s is in use by another sluice (process %s): "+
			"stop it, or choose another directory with --set data_dir=DIR", dir, held.PID)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(dir, restoring)); err == nil {
		return nil, errors.Join(fmt.Errorf("a restore into %s did not end: remove every file that it made there, %s last, and restore again",
			dir, restoring), l.Release())
	}
	return l, nil
}
