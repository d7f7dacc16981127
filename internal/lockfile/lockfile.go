// Package lockfile keeps what belongs to one process (a data directory, a database file) from a second one. The kernel
// frees a lock when its process dies, however it dies, so there is never a stale one.
package lockfile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Lock is a lock that is held.
type Lock struct{ file *os.File }

// HeldError says that another process has the lock.
type HeldError struct {
	Path string
	PID  string // of the process, as it wrote it; empty if it did not
}

func (e *HeldError) Error() string { return fmt.Sprintf("%s is locked by process %s", e.Path, e.PID) }

// Take locks the file, which is made if it is not there and stays, and writes the process id into it. It does not wait:
// a lock that somebody has, this process included, is a *HeldError.
func Take(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		if err = errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid()))); err == nil {
			return &Lock{f}, nil
		}
	} else if errors.Is(err, syscall.EWOULDBLOCK) {
		pid := make([]byte, 20)
		n, _ := f.ReadAt(pid, 0)
		err = &HeldError{Path: path, PID: strings.TrimSpace(string(pid[:n]))}
	}
	return nil, errors.Join(err, f.Close())
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// Release gives the lock up. Later calls do nothing.
func (l *Lock) Release() error {
	if err := l.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
