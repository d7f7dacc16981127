package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
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

// Ten thousand idle connections and two hundred slow clients stop no sale, and take little memory. The sale lasts until
// every slow client has been cut off.
func TestIdleAndSlowClientsStopNoSale(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: ten thousand connections")
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < idleConnections+slowClients+500 {
		t.Fatalf("%d open files are allowed, too few for this test (ulimit -n): %v", files.Cur, err)
	}
	p := spawn(t, t.TempDir(), "--set", "gateway.idle_timeout=5m", "--set", "gateway.read_timeout=500ms")
	addr := strings.TrimPrefix(p.gateway, "http://")
	offer := p.offer("flash", 1_000_000, 1)
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
	var cut atomic.Int64
	for n := range slowClients {
		first, text := "", head // half of them dribble the body only
		if n%2 == 0 {
			first, text = head, " "
		}
		slow.Go(func() { (&slowClient{addr, first, text, func() { cut.Add(1) }, stop}).run() })
	}
	user, grown := order.UserID(0), int64(0)
	for deadline := time.Now().Add(2 * time.Minute); user < 400 || cut.Load() < slowClients; {
		if user++; user == 400 {
			grown = p.resident() - before
		}
		if a := p.orderStatus(user, offer); a != 202 {
			t.Errorf("user %d got %d", user, a)
		}
		if time.Now().After(deadline) {
			t.Errorf("%d of %d slow clients were cut off", cut.Load(), slowClients)
			break
		}
	}
	close(stop)
	slow.Wait()
	t.Logf("%d orders beside %d idle connections and %d slow clients, which took %d MiB", user, idleConnections, slowClients, grown>>20)
	if most := int64(idleConnections) * 24 << 10; grown > most {
		t.Errorf("they took %d bytes, more than %d", grown, most)
	}
	p.audited(true)
}

// slowClient sends first, then text a byte at a time until stop, over a new connection when the server has enough. It
// calls cut when it is told for the first time that it was too slow.
type slowClient struct {
	addr, first, text string
	cut               func()
	stop              <-chan struct{}
}

func (s *slowClient) run() {
	told := false
	for {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			return
		}
		_, err = io.WriteString(c, s.first)
		answer := make([]byte, 12)
		for i, n := 0, 0; n == 0 && err == nil; i++ {
			select {
			case <-s.stop:
				_ = c.Close()
				return
			default:
			}
			if _, err = c.Write([]byte{s.text[i%len(s.text)]}); err == nil {
				_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				n, _ = io.ReadFull(c, answer) // as a rule nothing comes
			}
		}
		if _ = c.Close(); !told && string(answer) == "HTTP/1.1 408" {
			told = true
			s.cut()
		}
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
