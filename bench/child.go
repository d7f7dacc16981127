package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a server that this process started and ends.
type child struct {
	cmd   *exec.Cmd
	addrs map[string]string // of its ready line: gateway, ops
	log   bytes.Buffer      // what it said on standard error; read after its end
	ended chan error

	once    sync.Once
	stopErr error
}

// readyWait bounds the time until a child says that it is ready, stopWait that until it has stopped.
const (
	readyWait = 60 * time.Second
	stopWait  = 60 * time.Second
)

// start runs a program until it prints `ready NAME=ADDR ...`.
func start(ctx context.Context, env []string, argv ...string) (*child, error) {
	c := &child{cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stderr = &c.log
	// A signal from the terminal reaches the whole group; the children are ended by us, after what they hold was read.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	ready := make(chan string, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		ready <- line
		_, _ = io.Copy(io.Discard, r)
		c.ended <- c.cmd.Wait()
	}()
	timeout := time.NewTimer(readyWait)
	defer timeout.Stop()
	select {
	case line := <-ready:
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "ready "); ok {
			c.addrs = parseReady(rest)
			return c, nil
		}
		err = errors.New("it did not get ready")
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = fmt.Errorf("it was not ready after %s", readyWait)
	}
	_ = c.cmd.Process.Kill()
	<-c.ended
	return nil, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, c.tail())
}

func parseReady(s string) map[string]string {
	addrs := map[string]string{}
	for _, f := range strings.Fields(s) {
		name, addr, _ := strings.Cut(f, "=")
		addrs[name] = addr
	}
	return addrs
}

// stop ends the child gracefully and says what it said if it did not end well. Later calls say the same.
func (c *child) stop() error {
	c.once.Do(func() { c.stopErr = c.end() })
	return c.stopErr
}

func (c *child) end() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-c.ended:
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", c.cmd.Path, err, c.tail())
		}
		return nil
	case <-time.After(stopWait):
		_ = c.cmd.Process.Kill()
		<-c.ended
		return fmt.Errorf("%s did not stop in %s", c.cmd.Path, stopWait)
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// tail is the end of what the child, which has ended, said.
func (c *child) tail() string {
	b := c.log.Bytes()
	return string(b[max(0, len(b)-2000):])
}
