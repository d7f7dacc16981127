package processtest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestPause: a process that works without a pause does nothing more when Pause returns, and goes on when it is resumed.
func TestPause(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "n")
	p := New(t, "dash", "sh", "-c", `while :; do echo >>"$0"; done`, file)
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	p.Launch()
	for range 100 {
		p.Pause()
		if !p.stopped() {
			t.Fatal("it goes on by itself")
		}
		before := size()
		p.Resume()
		for end := time.Now().Add(waitMax); size() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it does not go on")
			}
		}
	}
	p.End(syscall.SIGTERM)
	if p.Runs() {
		t.Error("it runs behind its end")
	}
	p.Launch()
	p.Pause()
	p.Kill()
	if p.Runs() {
		t.Error("it runs, though paused and killed")
	}
}
