package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// cable is a listener that hands every connection on to one server. It can be cut without either end noticing, and led
// to another server.
type cable struct {
	t        *testing.T
	listener net.Listener
	cut      atomic.Bool

	mu    sync.Mutex
	to    string
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// newCable listens at an address, with port 0 at a free one, until the test ends.
func newCable(t *testing.T, at, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{t: t, listener: l, to: to, conns: map[net.Conn]bool{}}
	c.wg.Go(c.serve)
	t.Cleanup(c.close)
	return c
}

func (c *cable) addr() string { return c.listener.Addr().String() }

func (c *cable) serve() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		far, err := net.Dial("tcp", c.to)
		if err != nil {
			_ = near.Close()
			c.mu.Unlock()
			continue
		}
		c.conns[near], c.conns[far] = true, true
		c.mu.Unlock()
		c.wg.Go(func() { c.carry(near, far) })
		c.wg.Go(func() { c.carry(far, near) })
	}
}

// carry moves what comes from one end to the other; through a cut cable nothing comes, and nobody is told.
func (c *cable) carry(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !c.cut.Load() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// lead leads the cable to another server: whoever is connected is hung up on.
func (c *cable) lead(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = to
	c.hangUp()
}

// hangUp closes all connections; mu is held.
func (c *cable) hangUp() {
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}

func (c *cable) close() {
	_ = c.listener.Close()
	c.mu.Lock()
	c.hangUp()
	c.mu.Unlock()
	c.wg.Wait()
}

// A cable carries both ways, carries nothing when it is cut, and leads elsewhere when it is led there.
func TestCable(t *testing.T) {
	t.Parallel()
	echo := func(word byte) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = conn.Close() }()
					for b := make([]byte, 1); ; {
						if _, err := io.ReadFull(conn, b); err != nil {
							return
						}
						_, _ = conn.Write([]byte{word})
					}
				}()
			}
		}()
		return l.Addr().String()
	}
	c := newCable(t, "127.0.0.1:0", echo('a'))
	ask := func() byte {
		conn, err := net.Dial("tcp", c.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		b := []byte{'?'}
		_, _ = conn.Write(b)
		_, _ = io.ReadFull(conn, b)
		return b[0]
	}
	if got := ask(); got != 'a' {
		t.Errorf("through the cable comes %c", got)
	}
	c.lead(echo('b'))
	if got := ask(); got != 'b' {
		t.Errorf("led elsewhere, through the cable comes %c", got)
	}
}
