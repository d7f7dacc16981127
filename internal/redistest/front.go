package redistest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Front is an address that stands for one server at a time, as a virtual address or a proxy does in front of a master
// and its replica.
type Front struct {
	Addr string

	mu     sync.Mutex
	target string
	open   map[net.Conn]bool
	closed bool
	losing atomic.Bool
	wg     sync.WaitGroup
}

// NewFront stands for s until To names another server.
func NewFront(t testing.TB, s *Server) *Front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Front{Addr: l.Addr().String(), target: s.Addr, open: map[net.Conn]bool{}}
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.cut(func() { f.closed = true })
		f.wg.Wait()
	})
	return f
}

// To lets the address stand for s and breaks every connection that there is.
func (f *Front) To(s *Server) { f.cut(func() { f.target = s.Addr }) }

func (f *Front) stands(s *Server) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.target == s.Addr
}

func (f *Front) cut(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	for c := range f.open {
		_ = c.Close()
	}
}

// keep notes a connection, so that it can be broken. It tells whether the front still stands for target.
func (f *Front) keep(c net.Conn, target string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[c] = true
	return !f.closed && f.target == target
}

func (f *Front) drop(c net.Conn) {
	_ = c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
}

// serve carries one connection until either side ends it.
func (f *Front) serve(from net.Conn) {
	defer f.drop(from)
	f.mu.Lock()
	target := f.target
	f.mu.Unlock()
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer f.drop(to)
	if !f.keep(from, target) || !f.keep(to, target) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(answers{f, from}, to)
	_ = from.Close()
	<-done
}

// LoseAnswer breaks the next connection on which the server answers: what was asked is done, and nobody hears of it.
func (f *Front) LoseAnswer() { f.losing.Store(true) }

// answers writes to a client what the server answers.
type answers struct {
	f  *Front
	to net.Conn
}

func (a answers) Write(b []byte) (int, error) {
	if a.f.losing.CompareAndSwap(true, false) {
		return 0, net.ErrClosed
	}
	return a.to.Write(b)
}
