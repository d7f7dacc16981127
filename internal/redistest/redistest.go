// Package redistest starts real Redis servers of a test's own, which it may then kill, pause, starve and rob: alone, as a
// replica of another, or as a cluster. Nothing of it is in the program. They listen on the loopback interface, keep their
// data in the test's directory and end with the test, or with the test's process however that ends.
//
// # Goroutines
//
// One per server that runs: processtest's.
package redistest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/processtest"
)

// Server is one Redis server. Its methods end the test when they fail; they are for one goroutine.
type Server struct {
	Addr     string // host:port, the same for all its lives
	Password string
	Dir      string // of its data and its log
	Lines    []string

	*processtest.Process
	t testing.TB
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

// triesMax bounds how many ports are tried, and waitMax how long anything is waited for. The nodes of a cluster talk at
// a port that is greater by busPort.
const (
	triesMax = 20
	waitMax  = time.Minute
	busPort  = 10_000
)

func start(t testing.TB, password string, lines []string) *Server {
	t.Helper()
	s := &Server{Password: password, Dir: t.TempDir(), Lines: lines, t: t}
	s.Process = processtest.New(t, "redis-server", "redis-server", s.file())
	for range triesMax {
		s.Addr = processtest.FreeAddr(t, busPort)
		if err := s.begin(); err == nil {
			return s
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	t.Fatalf("redis-server does not start:\n%s", log)
	return nil
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

func (s *Server) file() string { return filepath.Join(s.Dir, "redis.conf") }

// begin starts the process and waits until it has its data in memory.
func (s *Server) begin() error {
	if err := os.WriteFile(s.file(), []byte(s.config()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.Launch()
	c := s.Client()
	defer func() { _ = c.Close() }()
	for end := time.Now().Add(waitMax); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if !s.Runs() {
			return errors.New("it ended at once")
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
	if err := s.begin(); err != nil {
		log, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
		s.t.Fatalf("redis-server does not start again: %v\n%s", err, log)
	}
}

// StartElsewhere starts the server again with its data, at another address.
func (s *Server) StartElsewhere() {
	s.t.Helper()
	s.Addr = processtest.FreeAddr(s.t, busPort)
	s.Start()
}

// Stop ends the server in order: its append-only file is whole.
func (s *Server) Stop() { s.End(syscall.SIGTERM) }

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
