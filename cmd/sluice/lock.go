package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// dirLock is the lock on the data directory: one process at a time. The kernel frees it when the process dies, however
// it dies, so there is never a stale one.
type dirLock struct{ file *os.File }

// lockDir makes the directory if it is not there and locks it.
func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid())))
		return &dirLock{f}, err
	}
	pid := make([]byte, 20)
	n, _ := f.ReadAt(pid, 0)
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("data directory %s is in use by another sluice (process %s): "+
			"stop it, or choose another directory with --set data_dir=DIR", dir, strings.TrimSpace(string(pid[:n])))
	}
	return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func (l *dirLock) unlock() error { return l.file.Close() }
