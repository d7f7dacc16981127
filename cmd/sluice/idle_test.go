package main

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/engine/order"
)

// Those who only hold a connection, or send a byte now and then.
const (
	idleConnections = 10_000
	slowClients     = 200
)

// Ten thousand idle connections and two hundred slow clients stop no sale, and take little memory.
func TestIdleAndSlowClientsStopNoSale(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: ten thousand connections")
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < idleConnections+slowClients+500 {
		t.Fatalf("%d open files are allowed, too few for this test (ulimit -n): %v", files.Cur, err)
	}
	p := spawn(t, t.TempDir(), "--set", "gateway.idle_timeout=5m", "--set", "gateway.read_timeout=3s")
	addr := strings.TrimPrefix(p.gateway, "http://")
	offer := p.offer("flash", 300, 1)
	before := p.resident()
	for range idleConnections {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	stop := make(chan struct{})
	var slow sync.WaitGroup
	head := "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + p.token(1) +
		"\r\nContent-Length: 1000\r\n\r\n{"
	for n := range slowClients {
		slow.Go(func() { dribble(addr, head[n%len(head):], stop) })
	}
	served := 0
	for user := order.UserID(1); user <= 400; user++ {
		if a := p.orderStatus(user, offer); a == 202 {
			served++
		} else if a != 409 {
			t.Errorf("user %d got %d", user, a)
		}
	}
	close(stop)
	slow.Wait()
	if served != 300 {
		t.Errorf("%d of 300 units were sold", served)
	}
	grown := p.resident() - before
	t.Logf("%d idle connections and %d slow clients took %d MiB", idleConnections, slowClients, grown>>20)
	if most := int64(idleConnections) * 24 << 10; grown > most {
		t.Errorf("they took %d bytes, more than %d", grown, most)
	}
	p.audited(true)
}

// dribble sends text a byte at a time, over a new connection when the server has enough, until stop.
func dribble(addr, text string, stop <-chan struct{}) {
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				_ = c.Close()
				return
			case <-time.After(50 * time.Millisecond):
				_, err = c.Write([]byte{text[i%len(text)]})
			}
		}
		_ = c.Close()
	}
}

// orderStatus orders a unit and returns the status.
func (s *shop) orderStatus(user order.UserID, offer string) int {
	s.t.Helper()
	a, err := s.try("POST", s.gateway+"/v1/orders", s.token(user), line(offer, 1))
	if err != nil {
		s.t.Fatal(err)
	}
	return a.status
}

// resident is the memory of the server, in bytes.
func (s *shop) resident() (n int64) {
	s.t.Helper()
	a := s.must(200, "GET", s.ops+"/metrics", s.secrets.OpsToken, "")
	for line := range strings.Lines(string(a.body)) {
		if _, err := fmt.Sscanf(line, "process_resident_memory_bytes %d", &n); err == nil {
			return n
		}
	}
	s.t.Fatal("/metrics has no process_resident_memory_bytes")
	return 0
}
