package redistest

import (
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Site is a master that clients reach by the address of its front, and what an event needs beside it.
type Site struct {
	Front   *Front
	Master  *Server
	replica *Server // nil, or with all of the master's data when the selling begins

	copy string // of the master's files
}

// Event is something that happens to a Redis on which somebody sells. Behind it the data may be gone, older than what
// was acknowledged, or another server's; whatever it is, it may not be sold as if nothing had been.
type Event struct {
	Name    string
	lines   []string
	replica bool
	before  func(s *Site)
	happen  func(s *Site)
}

// Events lists what can happen to a master behind a front.
func Events() []Event {
	list := []Event{
		{Name: "restart", happen: func(s *Site) { s.restart() }},
		{Name: "restart in order", happen: func(s *Site) {
			s.Master.Stop()
			s.Master.Start()
		}},
		{Name: "append-only file cut", happen: func(s *Site) {
			s.Master.Kill()
			s.cutFile()
			s.Master.Start()
		}},
		{Name: "restart without persistence", lines: []string{"appendonly no"}, happen: func(s *Site) { s.restart() }},
		{Name: "flushed", happen: func(s *Site) { s.Master.Do("FLUSHALL") }},
		{Name: "old dump", lines: []string{"appendonly no"}, before: (*Site).saveDump, happen: (*Site).restoreFiles},
		{Name: "old append-only file", before: func(s *Site) {
			s.Master.AwaitInfo("persistence", "aof_buffer_length:0") // a slow disk has it written late
			s.keepFiles()
		}, happen: (*Site).restoreFiles},
		{Name: "first replica", happen: func(s *Site) { s.Master.Replica() }},
		{Name: "replica that misses writes promoted", replica: true, before: func(s *Site) {
			s.replica.CatchUp(s.Master)
			s.replica.Do("REPLICAOF", "127.0.0.1", "1") // nobody is there: it keeps what it has and hears no more
		}, happen: func(s *Site) {
			s.Master.Kill()
			s.promote()
		}},
		{Name: "roles exchanged", replica: true, happen: func(s *Site) {
			s.replica.CatchUp(s.Master)
			s.promote()
			s.Master.follow(s.replica)
		}},
		{Name: "demoted and promoted", replica: true, happen: func(s *Site) {
			s.replica.CatchUp(s.Master)
			s.replica.Do("REPLICAOF", "NO", "ONE")
			s.Master.follow(s.replica)
			s.Master.Do("REPLICAOF", "NO", "ONE")
		}},
	}
	for _, kind := range []string{"fence", "left", "offers", "buyers", "outbox"} {
		list = append(list, Event{Name: "deleted " + kind, happen: func(s *Site) { s.deleteKeys("*:" + kind) }})
	}
	// The records of today and of yesterday, whichever is which.
	list = append(list, Event{Name: "deleted idem, even", happen: func(s *Site) { s.deleteKeys("*:idem:*[02468]") }},
		Event{Name: "deleted idem, odd", happen: func(s *Site) { s.deleteKeys("*:idem:*[13579]") }})
	return list
}

// Site starts what the event happens to.
func (e *Event) Site(t testing.TB) *Site {
	t.Helper()
	s := &Site{Master: Start(t, e.lines...)}
	if e.replica {
		s.replica = s.Master.Replica()
	}
	s.Front = NewFront(t, s.Master)
	return s
}

// Before is to be called when something was sold; what is sold after it may be lost in the event.
func (e *Event) Before(s *Site) {
	if e.before != nil {
		e.before(s)
	}
}

// Happen lets it happen. The site is reachable again when it returns.
func (e *Event) Happen(s *Site) { e.happen(s) }

// Serving is the server that the front stands for.
func (s *Site) Serving() *Server {
	if s.replica != nil && s.Front.stands(s.replica) {
		return s.replica
	}
	return s.Master
}

func (s *Site) restart() {
	s.Master.Kill()
	s.Master.Start()
}

func (s *Site) promote() {
	s.replica.Do("REPLICAOF", "NO", "ONE")
	s.Front.To(s.replica)
}

// CatchUp waits until the server, a replica, has everything that its master has now.
func (s *Server) CatchUp(master *Server) {
	s.t.Helper()
	has := func(server *Server, field string) int64 {
		n, err := strconv.ParseInt(server.Info("replication", field), 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		return n
	}
	wanted := has(master, "master_repl_offset")
	s.await("what its master has", func() bool { return has(s, "slave_repl_offset") >= wanted })
}

// follow makes the server a replica of another and waits for its data.
func (s *Server) follow(master *Server) {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	s.Do("REPLICAOF", host, port)
	s.AwaitInfo("replication", "master_link_status:up")
}

// deleteKeys deletes all keys of a pattern. It must find some.
func (s *Site) deleteKeys(pattern string) {
	t := s.Master.t
	t.Helper()
	keys, _ := s.Master.Do("KEYS", pattern).([]any)
	if len(keys) == 0 {
		t.Fatalf("there is no key %s", pattern)
	}
	s.Master.Do(append([]any{"DEL"}, keys...)...)
}

// cutFile cuts the append-only file of a server that is down at a random byte.
func (s *Site) cutFile() {
	t := s.Master.t
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Master.Dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		t.Fatal("there is no append-only file", err)
	}
	file := slices.Max(files)
	about, err := os.Stat(file)
	if err != nil || about.Size() == 0 {
		t.Fatal("the append-only file is empty", err)
	}
	at := rand.Int64N(about.Size())
	t.Logf("%s is cut at byte %d of %d", filepath.Base(file), at, about.Size())
	if err := os.Truncate(file, at); err != nil {
		t.Fatal(err)
	}
}

func (s *Site) saveDump() {
	s.Master.Do("SAVE")
	s.keepFiles()
}

func (s *Site) restoreFiles() {
	s.Master.Kill()
	s.putFilesBack()
	s.Master.Start()
}

// keepFiles copies what a kill would leave of the master's files.
func (s *Site) keepFiles() {
	s.copy = s.Master.t.TempDir()
	copyFiles(s.Master.t, s.copy, s.Master.Dir)
}

// putFilesBack replaces the data of a server that is down by what was kept.
func (s *Site) putFilesBack() {
	t := s.Master.t
	for _, name := range []string{"dump.rdb", "appendonlydir"} {
		if err := os.RemoveAll(filepath.Join(s.Master.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	copyFiles(t, s.Master.Dir, s.copy)
}

// copyFiles copies the data of a server and nothing else.
func copyFiles(t testing.TB, to, from string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, from)
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".rdb") && !strings.Contains(name, "appendonly") {
			return err
		}
		found++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, 0o600)
	})
	if err != nil || found == 0 {
		t.Fatalf("%d files of data copied: %v", found, err)
	}
}
