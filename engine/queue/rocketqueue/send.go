package rocketqueue

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	rocketerrors "github.com/apache/rocketmq-client-go/v2/errors"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"sluice/engine/queue"
)

const (
	sendsMax     = 64
	lateMax      = 3 * time.Second // without an answer to any send, a producer whose sends run out of time is replaced
	uncompressed = 8 << 20         // the client compresses messages from this size on; there are none
	full         = "CODE: 14,"     // how an answer begins that the broker takes no messages: its disk is full, or it stops
)

// sender publishes through one producer at a time.
type sender struct {
	options *Options
	slots   chan struct{} // capacity sendsMax: held by each send until the client has let go of it
	closed  chan struct{}

	mu      sync.Mutex
	current *speaker
}

// speaker is one producer.
type speaker struct {
	rocketmq.Producer
	lateFrom time.Time // of the first send that ran out of time since the last answer, zero if none; under sender.mu

	mu   sync.Mutex
	warm map[string]chan struct{} // by topic; closed when the first send has succeeded, capacity 1: whoever tries
}

func newSender(o *Options) (*sender, error) {
	s := &sender{options: o, slots: make(chan struct{}, sendsMax), closed: make(chan struct{})}
	var err error
	s.current, err = s.speaker()
	return s, err
}

func (s *sender) speaker() (*speaker, error) {
	p, err := rocketmq.NewProducer(
		producer.WithNsResolver(resolver(s.options.NameServers)),
		producer.WithGroupName(s.options.Name+"-producers"),
		producer.WithInstanceName(rand.Text()),
		producer.WithRetry(0),
		producer.WithCompressMsgBodyOverHowmuch(uncompressed),
		producer.WithQueueSelector(producer.NewManualQueueSelector()))
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("make a producer: %w", err)
	}
	return &speaker{Producer: p, warm: map[string]chan struct{}{}}, nil
}

// resolver gives the name servers to the client, which takes addresses only and no names.
type resolver []string

// Resolve looks names up; what cannot be looked up is left out.
func (r resolver) Resolve() (addrs []string) {
	for _, text := range r {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			continue
		}
		ips, err := net.LookupHost(host)
		if err == nil && len(ips) > 0 {
			addrs = append(addrs, net.JoinHostPort(ips[0], port))
		}
	}
	return addrs
}

// Description is for the client's errors.
func (r resolver) Description() string {
	return "queue.rocketqueue.name_servers " + strings.Join(r, ", ")
}

// message is what is sent, and where to.
type message struct {
	topic, broker string
	queue         int
	body          []byte
}

// receipt is what came of a message: where it lies in its queue, if there is no error.
type receipt struct {
	offset int64
	err    error
}

// send publishes one message.
func (s *sender) send(ctx context.Context, m message) (offset int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.closed:
		return 0, queue.ErrClosed
	}
	s.mu.Lock()
	by := s.current
	s.mu.Unlock()
	sent := primitive.NewMessage(m.topic, bytes.Clone(m.body))
	sent.Queue = &primitive.MessageQueue{Topic: m.topic, BrokerName: m.broker, QueueId: m.queue}
	done := make(chan receipt, 1)
	go func() {
		r := by.send(ctx, sent)
		<-s.slots
		s.heard(by, r.err)
		done <- r
	}()
	select {
	case r := <-done:
		if over := ended(ctx); r.err != nil && over != nil {
			return 0, over
		}
		return r.offset, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// ended is the error of a context, a little earlier: the client may see its deadline before it has passed.
func ended(ctx context.Context) error {
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// send lets one send of a topic go first: several at once, of which each looks for the route, may miss it.
func (k *speaker) send(ctx context.Context, m *primitive.Message) (r receipt) {
	k.mu.Lock()
	warm, known := k.warm[m.Topic]
	if !known {
		warm = make(chan struct{}, 1)
		warm <- struct{}{}
		k.warm[m.Topic] = warm
	}
	k.mu.Unlock()
	var first bool
	select {
	case _, first = <-warm:
	case <-ctx.Done():
		return receipt{err: ctx.Err()}
	}
	result, err := k.SendSync(ctx, m)
	if r.err = verdict(result, err); r.err == nil {
		r.offset = result.QueueOffset
	}
	switch {
	case first && r.err == nil:
		close(warm)
	case first:
		warm <- struct{}{}
	}
	return r
}

// verdict tells what an answer means. A result that comes with an error means nothing.
func verdict(result *primitive.SendResult, err error) error {
	switch {
	case err != nil && strings.HasPrefix(err.Error(), full):
		return fmt.Errorf("%w: %w", queue.ErrFull, err)
	case err != nil:
		return err
	case result.Status != primitive.SendOK:
		return fmt.Errorf("the broker has the message, and not durably: %s", statuses[result.Status])
	}
	return nil
}

var statuses = map[primitive.SendStatus]string{
	primitive.SendFlushDiskTimeout:  "FLUSH_DISK_TIMEOUT",
	primitive.SendFlushSlaveTimeout: "FLUSH_SLAVE_TIMEOUT",
	primitive.SendSlaveNotAvailable: "SLAVE_NOT_AVAILABLE",
	primitive.SendUnknownError:      "an unknown status",
}

// heard notes that a producer was answered, or replaces it if it has not been for long: its connection may lead nowhere.
func (s *sender) heard(by *speaker, err error) {
	if s.outlived(by, errors.Is(err, rocketerrors.ErrRequestTimeout) || errors.Is(err, context.DeadlineExceeded)) {
		_ = by.Shutdown() // it never fails
	}
}

func (s *sender) outlived(by *speaker, late bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !late:
		by.lateFrom = time.Time{}
	case by.lateFrom.IsZero():
		by.lateFrom = time.Now()
	case by == s.current && time.Since(by.lateFrom) > lateMax:
		next, err := s.speaker()
		if err == nil {
			s.current = next
		}
		return err == nil
	}
	return false
}

// close waits a moment for sends that are under way and ends the producer.
func (s *sender) close() error {
	close(s.closed)
	timer := time.NewTimer(answerMax)
	defer timer.Stop()
	for held := 0; held < sendsMax; {
		select {
		case s.slots <- struct{}{}:
			held++
		case <-timer.C:
			held = sendsMax
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.Shutdown()
}
