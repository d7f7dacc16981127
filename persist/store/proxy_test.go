package store

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// proxy stands between the store and a MySQL server, as a process listening on a port of its own, and loses the connection
// around the n-th COMMIT from now: after the server has answered it, or before it gets there. Nobody but the server knows
// which.
type proxy struct {
	listener net.Listener
	upstream string
	commits  atomic.Int64 // counts down; the connection of the one that makes it zero is lost
	arrives  atomic.Bool  // the server gets that COMMIT
	all      atomic.Bool  // the connection of every COMMIT is lost
	lost     atomic.Int64 // how many were
	silent   atomic.Value // string: who says this is not answered any more, and not hung up on either
	over     chan struct{}
	running  sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool
}

// newProxy stands before the server of a data source name and returns the name that leads through it.
func newProxy(t *testing.T, dsn string) (p *proxy, through string) {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	noError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	p = &proxy{listener: listener, upstream: cfg.Addr, open: map[net.Conn]bool{}, over: make(chan struct{})}
	p.silent.Store("")
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	cfg.Net, cfg.Addr = "tcp", listener.Addr().String()
	return p, cfg.FormatDSN()
}

func (p *proxy) close() {
	_ = p.listener.Close()
	close(p.over)
	p.cut()
	p.running.Wait()
}

// cut breaks every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.open[client], p.open[server] = true, true
		p.mu.Unlock()
		var lost atomic.Bool // the next answer is not passed on
		end := func() { _, _ = client.Close(), server.Close() }
		p.running.Go(func() { defer end(); p.requests(server, client, &lost) })
		p.running.Go(func() { defer end(); p.answers(client, server, &lost) })
	}
}

// requests passes packets on to the server. A packet has its length in three bytes and a number in front of it.
func (p *proxy) requests(server, client net.Conn, lost *atomic.Bool) {
	for {
		packet := make([]byte, 4)
		if _, err := io.ReadFull(client, packet); err != nil {
			return
		}
		length := binary.LittleEndian.Uint32(packet) & (1<<24 - 1)
		packet = append(packet, make([]byte, length)...)
		if _, err := io.ReadFull(client, packet[4:]); err != nil {
			return
		}
		if said := p.silent.Load().(string); said != "" && string(packet[4:]) == "\x03"+said {
			<-p.over
			return
		}
		if strings.EqualFold(string(packet[4:]), "\x03COMMIT") && (p.commits.Add(-1) == 0 || p.all.Load()) {
			p.lost.Add(1)
			if !p.arrives.Load() {
				return
			}
			lost.Store(true)
		}
		if _, err := server.Write(packet); err != nil {
			return
		}
	}
}

func (p *proxy) answers(client, server net.Conn, lost *atomic.Bool) {
	b := make([]byte, 64<<10)
	for {
		n, err := server.Read(b)
		if err != nil || lost.Load() { // the answer is here: the server has done it
			return
		}
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}
