package pausetest

import (
	"bufio"
	"os/exec"
	"syscall"
	"testing"
)

// TestStop: a process that works without a pause has stopped when Stop returns, and goes on behind SIGCONT.
func TestStop(t *testing.T) {
	t.Parallel()
	busy := exec.Command("sh", "-c", "while :; do echo; done")
	out, err := busy.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = busy.Process.Kill()
		_ = busy.Wait()
	}()
	lines := bufio.NewReader(out)
	for range 100 {
		Stop(t, busy.Process.Pid)
		if !stopped(t, busy.Process.Pid) {
			t.Fatal("it goes on by itself")
		}
		if err := busy.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
}
