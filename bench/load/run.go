package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how requests are sent.
type Options struct {
	Addrs       []string    // of the gateways; connections are dealt out to them in turn
	TLS         *tls.Config // nil: in plain
	Connections int
	// Rate is the orders per second of an open loop: each send is meant for its moment, whatever happened to those before
	// it. 0 finds the maximum: every connection sends its next request when it has its answer.
	Rate float64
	// Sends is the number of sends; 0: as many as the requests have, once each. Pick says which of them a send is; nil: the
	// one of its own number.
	Sends int
	Pick  func(send int) int
	// Duration ends the run earlier; 0: no bound.
	Duration time.Duration
	// Timeout gives a request up; 0 means 20 s.
	Timeout time.Duration
	// Progress, if set, counts answers while the run goes on.
	Progress *atomic.Int64
}

// Run sends requests and waits for their answers. When ctx ends it stops sending. It gives an error only if no
// connection could be made; everything later is a result.
func Run(ctx context.Context, o Options, reqs *Requests) (*Results, error) {
	if o.Connections <= 0 || len(o.Addrs) == 0 {
		return nil, errors.New("load needs at least one connection, and an address")
	}
	if o.Sends == 0 {
		o.Sends = reqs.Sends()
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	r := &runner{o: o, reqs: reqs, list: make([]Result, o.Sends*reqs.Lines()), end: make(chan struct{})}
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	r.start = time.Now()
	var wg, watch sync.WaitGroup
	for _, c := range r.conns {
		wg.Go(c.loop)
	}
	watch.Go(func() { r.watchdog(ctx) })
	wg.Wait()
	close(r.end)
	watch.Wait()
	return r.results(), nil
}

type runner struct {
	o     Options
	reqs  *Requests
	start time.Time
	next  atomic.Int64
	stop  atomic.Bool
	list  []Result
	conns []*conn
	end   chan struct{} // closed when every connection's loop has ended
}

func (r *runner) connect(ctx context.Context) error {
	for i := range r.o.Connections {
		c := &conn{r: r, addr: r.o.Addrs[i%len(r.o.Addrs)], buf: make([]byte, 16<<10)}
		nc, err := r.dial(ctx, c.addr)
		if err != nil && ctx.Err() != nil { // ended before it began
			r.stop.Store(true)
			return nil
		}
		if err != nil {
			for _, c := range r.conns {
				_ = (*c.nc.Load()).Close()
			}
			return fmt.Errorf("connect to %s: %w", c.addr, err)
		}
		c.nc.Store(&nc)
		r.conns = append(r.conns, c)
	}
	return nil
}

func (r *runner) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	if r.o.TLS == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	return (&tls.Dialer{NetDialer: &d, Config: r.o.TLS}).DialContext(ctx, "tcp", addr)
}

func (r *runner) redial(addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return r.dial(ctx, addr)
}

// watchdog stops the run when its time is up and closes connections that wait too long for an answer.
func (r *runner) watchdog(ctx context.Context) {
	var up <-chan time.Time
	if r.o.Duration > 0 {
		t := time.NewTimer(r.o.Duration)
		defer t.Stop()
		up = t.C
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	done := ctx.Done()
	for {
		select {
		case <-r.end:
			return
		case <-done:
			done = nil
			r.stop.Store(true)
		case <-up:
			r.stop.Store(true)
		case <-tick.C:
			oldest := time.Since(r.start) - r.o.Timeout
			for _, c := range r.conns {
				if at := c.waiting.Load(); at != 0 && time.Duration(at) < oldest {
					_ = (*c.nc.Load()).Close()
				}
			}
		}
	}
}

func (r *runner) results() *Results {
	res := &Results{Start: r.start, List: r.list}
	for _, c := range r.conns {
		_ = (*c.nc.Load()).Close()
		res.Size, res.SizeRefuse = max(res.Size, c.size), max(res.SizeRefuse, c.sizeRefuse)
		res.Broken += c.broken
	}
	return res
}
