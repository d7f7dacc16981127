package load

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// conn is one connection and the goroutine that uses it; nc and waiting are shared with the watchdog.
type conn struct {
	r          *runner
	addr       string
	nc         atomic.Pointer[net.Conn]
	waiting    atomic.Int64 // nanoseconds after the start at which the request in flight was sent; 0: none is
	buf        []byte
	size       int // of the last answer
	sizeRefuse int
	broken     int
}

// loop sends until the sends are spent or the run is stopped.
func (c *conn) loop() {
	r := c.r
	sends := int64(r.o.Sends)
	for !r.stop.Load() {
		i := r.next.Add(1) - 1
		if i >= sends {
			return
		}
		at := i
		if r.o.Pick != nil {
			at = int64(r.o.Pick(int(i)))
		}
		intended, due := c.await(i)
		if !due {
			return
		}
		lines := int64(r.reqs.Lines())
		if !c.one(r.list[i*lines:(i+1)*lines], r.reqs.Bytes(int(at)), intended) && !c.reconnect() {
			return
		}
	}
}

// await sleeps until send i is due and returns that moment; negative without a rate. due is false if the run was stopped
// before.
func (c *conn) await(i int64) (intended time.Duration, due bool) {
	if c.r.o.Rate <= 0 {
		return -1, true
	}
	intended = time.Duration(float64(i*int64(c.r.reqs.Lines())) / c.r.o.Rate * float64(time.Second))
	for {
		wait := intended - time.Since(c.r.start)
		if wait <= 0 {
			return intended, true
		}
		if c.r.stop.Load() {
			return 0, false
		}
		time.Sleep(min(wait, 100*time.Millisecond))
	}
}

// one does a send and stores the results of its orders; false if the connection is of no more use.
func (c *conn) one(results []Result, request []byte, intended time.Duration) bool {
	sent := time.Since(c.r.start)
	if intended < 0 {
		intended = sent
	}
	c.waiting.Store(int64(sent) | 1)
	var a answer
	err := c.exchange(request, &a)
	answered := time.Since(c.r.start)
	c.waiting.Store(0)
	body, lines := a.body, c.r.reqs.spec.Lines > 0 && a.code == 200
	for i := range results {
		if lines && err == nil {
			err = a.line(&body, i+1)
		}
		results[i] = Result{
			Order: a.id, Code: uint16(a.code), Reason: a.reason, done: true,
			intended: uint32(intended / 1000), sent: uint32(sent / 1000), answered: uint32(answered / 1000),
		}
		if err != nil {
			results[i].Code, results[i].Order = 0, 0
		}
	}
	if err != nil {
		return false
	}
	if results[0].Accepted() {
		c.size = a.size
	} else {
		c.sizeRefuse = a.size
	}
	if p := c.r.o.Progress; p != nil {
		p.Add(int64(len(results)))
	}
	return true
}

func (c *conn) exchange(request []byte, a *answer) error {
	nc := *c.nc.Load()
	if _, err := nc.Write(request); err != nil {
		return err
	}
	for n := 0; ; {
		m, err := nc.Read(c.buf[n:])
		if m == 0 && err != nil {
			return err
		}
		n += m
		err = parse(c.buf[:n], a)
		if err == nil && n > a.size {
			return errAnswer
		}
		if !errors.Is(err, errShort) || n == answerMax {
			return err
		}
		if n == len(c.buf) {
			c.buf = append(c.buf, make([]byte, n)...)
		}
	}
}

// reconnect replaces a broken connection. It tries until the run is stopped, or for as long as a request may take: then
// the server is gone for good.
func (c *conn) reconnect() bool {
	c.broken++
	_ = (*c.nc.Load()).Close()
	for begun := time.Now(); !c.r.stop.Load() && time.Since(begun) < c.r.o.Timeout; time.Sleep(20 * time.Millisecond) {
		if nc, err := c.r.redial(c.addr); err == nil {
			c.nc.Store(&nc)
			return true
		}
	}
	return false
}
