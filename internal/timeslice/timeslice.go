// Package timeslice tells Linux how long this program's threads want to run at a stretch. A thread that asks for a shorter slice is
// given a CPU sooner when it wakes, and no more of it in the long run: sched_setattr(2), sched_runtime of a normal thread, which the
// EEVDF scheduler heeds since Linux 6.12 (docs.kernel.org/scheduler/sched-eevdf.html).
package timeslice

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnsupported says that this kernel gives every normal thread the same slice.
var ErrUnsupported = errors.New("the kernel knows no time slices of threads: Linux 6.12 is the first that does")

// Bounds of a slice; Linux cuts others to these.
const (
	Min = 100 * time.Microsecond
	Max = 100 * time.Millisecond
)

// Set asks for slices of d, Min to Max, for all threads of the program; those that they start later have the same.
func Set(d time.Duration) error {
	for more := true; more; { // a thread may have been started by one that had not been asked for
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		more = false
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("thread %q: %w", t.Name(), err)
			}
			changed, err := set(id, d)
			if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				return fmt.Errorf("slices of %v for thread %d: %w", d, id, err)
			}
			more = more || changed
		}
	}
	return nil
}

// set tells whether the thread had another slice. One that has been given another policy is left alone.
func set(thread int, d time.Duration) (changed bool, err error) {
	a, err := unix.SchedGetAttr(thread, 0)
	if err != nil || a.Policy != unix.SCHED_NORMAL || a.Runtime == uint64(d) {
		return false, err
	}
	a.Runtime = uint64(d)
	if err := unix.SchedSetAttr(thread, a, 0); err != nil {
		return false, err
	}
	if a, err = unix.SchedGetAttr(thread, 0); err == nil && a.Runtime != uint64(d) {
		err = ErrUnsupported
	}
	return true, err
}
