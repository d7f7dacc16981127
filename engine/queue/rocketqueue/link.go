package rocketqueue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	dialMax   = 2 * time.Second
	answerMax = 3 * time.Second // for a request that nothing holds up
)

var errLost = errors.New("the connection was lost")

// link is one connection to a name server or broker. Requests of several goroutines share it. A request that is not
// answered in time is given up and closes the link: the other end may be gone without a word.
type link struct {
	addr string
	conn net.Conn
	told func(code int) // called for requests of the other end; it must not block

	writing sync.Mutex
	frame   []byte // of the last request, for the next

	mu      sync.Mutex
	opaque  int32
	waiting map[int32]chan *command
	lost    chan struct{} // closed when the reader has ended
	reader  sync.WaitGroup
}

// dial connects. told may be nil.
func dial(ctx context.Context, addr string, told func(code int)) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialMax)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &link{addr: addr, conn: conn, told: told, waiting: map[int32]chan *command{}, lost: make(chan struct{})}
	l.reader.Go(l.read)
	return l, nil
}

// read hands answers to those who wait for them, until the connection ends.
func (l *link) read() {
	defer close(l.lost)
	defer func() { _ = l.conn.Close() }()
	in := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		c, err := readFrame(in)
		if err != nil {
			return
		}
		if c.Flag&answerFlag == 0 {
			if l.told != nil {
				l.told(c.Code)
			}
			continue
		}
		l.mu.Lock()
		answer := l.waiting[c.Opaque]
		delete(l.waiting, c.Opaque)
		l.mu.Unlock()
		if answer != nil {
			answer <- c
		}
	}
}

// ask sends a request and waits for its answer, atMost so long.
func (l *link) ask(ctx context.Context, c *command, atMost time.Duration) (*command, error) {
	answer := make(chan *command, 1)
	l.mu.Lock()
	l.opaque++
	c.Opaque = l.opaque
	l.waiting[c.Opaque] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiting, c.Opaque)
		l.mu.Unlock()
	}()
	if err := l.send(c); err != nil {
		_ = l.conn.Close()
		return nil, l.fault(err)
	}
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case a := <-answer:
		return a, nil
	case <-l.lost:
		return nil, l.fault(errLost)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		_ = l.conn.Close()
		return nil, l.fault(fmt.Errorf("no answer within %v", atMost))
	}
}

func (l *link) fault(err error) error { return fmt.Errorf("%s: %w", l.addr, err) }

func (l *link) send(c *command) (err error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	c.Language, c.Version = "GO", remoteVersion
	if l.frame, err = appendFrame(l.frame[:0], c); err != nil {
		return err
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(answerMax)); err != nil {
		return err
	}
	_, err = l.conn.Write(l.frame)
	return err
}

// close ends the connection and waits for the reader.
func (l *link) close() {
	_ = l.conn.Close()
	l.reader.Wait()
}
