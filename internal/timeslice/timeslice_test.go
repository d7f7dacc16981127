package timeslice

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every thread has the slice, those that are started later too.
func TestEveryThread(t *testing.T) {
	const slice = 300 * time.Microsecond
	err := Set(slice)
	if errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	started, end := make(chan struct{}), make(chan struct{})
	for range 20 {
		go func() {
			runtime.LockOSThread()
			started <- struct{}{}
			<-end
		}()
		<-started
	}
	defer close(end)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) < 20 {
		t.Fatalf("%d threads, want 20 at least", len(threads))
	}
	for _, th := range threads {
		id, _ := strconv.Atoi(th.Name())
		a, err := unix.SchedGetAttr(id, 0)
		if err != nil {
			t.Fatal(err)
		}
		if a.Runtime != uint64(slice) {
			t.Errorf("thread %d has slices of %v, want %v", id, time.Duration(a.Runtime), slice)
		}
	}
}
