// Package redistest starts real Redis servers of a test's own, which it may then kill, pause, starve and rob: alone, as a
// replica of another, or as a cluster. Nothing of it is in the program. They listen on the loopback interface, keep their
// data in the test's directory and end with the test, or with the test's process however that ends.
//
// # Goroutines
//
// One per server that runs: it waits for the process to end.
package redistest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/pausetest"
)

// Server is one Redis server. Its methods end the test when they fail; they are for one goroutine.
type Server struct {
	Addr     string // host:port, the same for all its lives
	Password string
	Dir      string // of its data and its log
	Lines    []string

	t       testing.TB
	process *exec.Cmd // nil: it does not run
	ended   chan struct{}
}

// Start starts a server with an append-only file and a password; lines are further ones of redis.conf, the last of two
// counts. Where there is no redis-server the test is skipped; in CI that is a failure.
func Start(t testing.TB, lines ...string) *Server {
	t.Helper()
	return start(t, rand.Text(), lines)
}

// Replica starts a server that follows this one, and waits until it has its data.
func (s *Server) Replica(lines ...string) *Server {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(s.Addr)
	r := start(s.t, s.Password, append([]string{"replicaof " + host + " " + port}, lines...))
	r.AwaitInfo("replication", "master_link_status:up")
	return r
}

// triesMax bounds how many ports are tried, and waitMax how long anything is waited for.
const (
	triesMax = 20
	waitMax  = time.Minute
)

func start(t testing.TB, password string, lines []string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal("there is no redis-server, and in CI nothing is skipped")
		}
		t.Skip("there is no redis-server: apt-get install redis-server")
	}
	s := &Server{Password: password, Dir: t.TempDir(), Lines: lines, t: t}
	t.Cleanup(s.Kill)
	for range triesMax {
		s.Addr = freeAddr(t)
		if err := s.begin(); err == nil {
			return s
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	t.Fatalf("redis-server does not start:\n%s", log)
	return nil
}

// freeAddr is an address of the loopback interface that nobody has, nor the one whose port is greater by 10,000, where
// the nodes of a cluster talk. Both are below the ports of outgoing connections, so that they stay free while the server
// is down.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 10 * triesMax {
		n, err := rand.Int(rand.Reader, big.NewInt(10_000))
		if err != nil {
			t.Fatal(err)
		}
		port := 12_000 + int(n.Int64())
		if free(port) && free(port+10_000) {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
	}
	t.Fatal("there is no free port")
	return ""
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// config is the file of the server. A file, because arguments can be read by everybody on the machine.
func (s *Server) config() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	lines := []string{"bind 127.0.0.1", "port " + port, "dir " + s.Dir, "logfile " + filepath.Join(s.Dir, "log"),
		"requirepass " + s.Password, "masterauth " + s.Password, "maxmemory 256mb", "maxmemory-policy noeviction", `save ""`,
		"appendonly yes", "appendfsync everysec", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1", "enable-debug-command local",
		// A replica that was cut off gets all of the data again, as one that was away for long does.
		"repl-backlog-size 16kb"}
	return strings.Join(append(lines, s.Lines...), "\n") + "\n"
}

// begin starts the process and waits until it has its data in memory.
func (s *Server) begin() error {
	file := filepath.Join(s.Dir, "redis.conf")
	if err := os.WriteFile(file, []byte(s.config()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	process := exec.Command("redis-server", file)
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = process.Wait() // how it ended is in its log
	}()
	s.process, s.ended = process, ended
	c := s.Client()
	defer func() { _ = c.Close() }()
	for end := time.Now().Add(waitMax); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			s.process = nil
			return errors.New("it ended at once")
		default:
		}
		if c.Ping(context.Background()).Err() == nil {
			return nil
		}
	}
	s.Kill()
	return errors.New("it does not answer")
}

// Start starts the server again, at its address and with the data that is in its directory.
func (s *Server) Start() {
	s.t.Helper()
	if s.process != nil {
		s.t.Fatal("the server runs already")
	}
	if err := s.begin(); err != nil {
		log, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
		s.t.Fatalf("redis-server does not start again: %v\n%s", err, log)
	}
}

// StartElsewhere starts the server again with its data, at another address.
func (s *Server) StartElsewhere() {
	s.t.Helper()
	s.Addr = freeAddr(s.t)
	s.Start()
}

// Stop ends the server in order: its append-only file is whole.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends it at once, paused or not. One that does not run stays so.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		return
	}
	s.signal(sig)
	select {
	case <-s.ended:
		s.process = nil
	case <-time.After(waitMax):
		s.t.Errorf("redis-server, process %d, does not end", s.process.Process.Pid)
	}
}

// Pause stops the server's clock, so to say: connections stay, nobody is answered. Resume lets it go on.
func (s *Server) Pause() {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("the server does not run")
	}
	pausetest.Stop(s.t, s.process.Process.Pid)
}

// Resume lets a paused server go on: it then does what it was asked for meanwhile.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("the server does not run")
	}
	if err := s.process.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatal(err)
	}
}

// Client is a client of the server with go-redis' defaults, for the caller to close.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr, Password: s.Password, Protocol: 2})
}

// Do sends one command and gives its answer.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	c := s.Client()
	defer func() { _ = c.Close() }()
	answer, err := c.Do(context.Background(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("%v: %v", args[0], err)
	}
	return answer
}

// Info is one field of INFO, empty if there is no such one.
func (s *Server) Info(section, field string) string {
	s.t.Helper()
	text, _ := s.Do("INFO", section).(string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == field {
			return value
		}
	}
	return ""
}

// AwaitInfo waits until INFO shows a line such as "master_link_status:up".
func (s *Server) AwaitInfo(section, line string) {
	s.t.Helper()
	field, want, _ := strings.Cut(line, ":")
	s.await(fmt.Sprintf("%s in INFO %s", line, section), func() bool { return s.Info(section, field) == want })
}

func (s *Server) await(what string, done func() bool) {
	s.t.Helper()
	for end := time.Now().Add(waitMax); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("redis at %s: waited a minute for %s", s.Addr, what)
		}
	}
}
