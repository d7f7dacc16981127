// Package processtest runs server processes of a test's own, which it may then kill and pause. Nothing of it is in the
// program. They end with the test, or with the test's process however that ends.
//
// # Goroutines
//
// One per process that runs: it waits for its end.
package processtest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Process is a program with its arguments, which may run several times, one after the other. Its methods end the test
// when they fail; they are for one goroutine.
type Process struct {
	t     testing.TB
	args  []string
	cmd   *exec.Cmd // nil: it does not run
	ended chan struct{}
}

// New returns a process that does not run yet. Where there is no such program the test is skipped, with what to install;
// in CI that is a failure.
func New(t testing.TB, debian string, args ...string) *Process {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatalf("there is no %s, and in CI nothing is skipped", args[0])
		}
		t.Skipf("there is no %s: apt-get install %s", args[0], debian)
	}
	p := &Process{t: t, args: args}
	t.Cleanup(p.Kill)
	return p
}

// Launch starts it.
func (p *Process) Launch() {
	p.t.Helper()
	if p.Runs() {
		p.t.Fatalf("%s runs already", p.args[0])
	}
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its log
	}()
	p.cmd, p.ended = cmd, ended
}

// Runs tells whether it was started and has not ended.
func (p *Process) Runs() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		p.cmd = nil
		return false
	default:
		return true
	}
}

const waitMax = time.Minute

// End sends a signal that ends it, and waits for its end. One that does not run stays so.
func (p *Process) End(sig syscall.Signal) {
	p.t.Helper()
	if !p.Runs() {
		return
	}
	p.signal(sig)
	select {
	case <-p.ended:
		p.cmd = nil
	case <-time.After(waitMax):
		p.t.Errorf("%s, process %d, does not end", p.args[0], p.cmd.Process.Pid)
	}
}

// Kill ends it at once, paused or not.
func (p *Process) Kill() { p.End(syscall.SIGKILL) }

// Pause stops its clock, so to say: connections stay, nobody is answered. It waits until each thread has stopped: the
// signal alone lets those that run on another core go on for a moment, in which a server may still answer.
func (p *Process) Pause() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	for end := time.Now().Add(waitMax); !p.stopped(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s, process %d, does not stop", p.args[0], p.cmd.Process.Pid)
		}
	}
}

// Resume lets a paused one go on: it then does what it was asked for meanwhile.
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) {
	p.t.Helper()
	if !p.Runs() {
		p.t.Fatalf("%s does not run", p.args[0])
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

func (p *Process) stopped() bool {
	p.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		p.t.Fatalf("%s, process %d, is gone", p.args[0], p.cmd.Process.Pid)
	}
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		// The state is the first word behind the name, which stands in parentheses and may hold anything.
		if rest := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(rest, []byte(" T")) {
			return false
		}
	}
	return true
}

// FreeAddr is an address of the loopback interface that nobody has, nor those whose port is greater by also. All are below
// the ports of outgoing connections, so that they stay free while a server is down.
func FreeAddr(t testing.TB, also ...int) string {
	t.Helper()
	for range 200 {
		n, err := rand.Int(rand.Reader, big.NewInt(10_000))
		if err != nil {
			t.Fatal(err)
		}
		port := 12_000 + int(n.Int64())
		free := isFree(port)
		for _, more := range also {
			free = free && isFree(port+more)
		}
		if free {
			return addr(port)
		}
	}
	t.Fatal("there is no free port")
	return ""
}

func addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func isFree(port int) bool {
	l, err := net.Listen("tcp", addr(port))
	return err == nil && l.Close() == nil
}
