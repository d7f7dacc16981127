package rocketqueue

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Options say where RocketMQ is and how the deployment is called there.
type Options struct {
	NameServers []string // host:port of each
	Name        string   // of the deployment: topics and groups begin with it
	Broker      string   // the name of the broker on which topics are made; empty: the only one there is
	MemoryMax   int64    // bytes of messages that wait in memory, per consumer, divided among the partitions of its kind

	Partitions  order.Partitions `koanf:"-"`
	MaxQueueAge time.Duration    `koanf:"-"` // for Check: the broker keeps messages for twice as long at least
	Letters     Letters          `koanf:"-"` // where dead letters are kept
}

// Letters is where dead letters are kept: Bury, Letters and Drop of queue.Queue, in some place that does not forget.
type Letters interface {
	Bury(ctx context.Context, d queue.Delivery, reason string) error
	Letters(ctx context.Context, after queue.LetterID, limit int) ([]queue.Letter, error)
	Drop(ctx context.Context, id queue.LetterID) error
}

// eventQueues is how many queues the topic of events is made with.
const eventQueues = 16

var names = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,60}$`)

// Validate says what is wrong with the settings.
func (o *Options) Validate() error {
	var errs []error
	if len(o.NameServers) == 0 {
		errs = append(errs, errors.New("queue.rocketqueue.name_servers must name at least one, as host:port"))
	}
	for _, addr := range o.NameServers {
		if err := checkAddr(addr); err != nil {
			errs = append(errs, fmt.Errorf("queue.rocketqueue.name_servers: %w", err))
		}
	}
	if !names.MatchString(o.Name) {
		errs = append(errs, fmt.Errorf("queue.rocketqueue.name must be 1 to 60 letters, digits, - or _, not %q", o.Name))
	}
	if o.MemoryMax < 1<<20 {
		errs = append(errs, fmt.Errorf("queue.rocketqueue.memory_max must be at least 1048576, not %d", o.MemoryMax))
	}
	return errors.Join(errs...)
}

// Identity is the identity of the queue that they describe.
func (o *Options) Identity() string { return "rocketqueue:" + o.Name }

// topic is the topic of a kind, and its consumer group.
func (o *Options) topic(kind order.Kind) string { return o.Name + "-orders-" + kind.String() }

// starts is the group whose offsets note the broker's starts.
func (o *Options) starts(kind order.Kind) string { return o.topic(kind) + "-starts" }

func (o *Options) events() string { return o.Name + "-order-events" }

// place is where a partition lies.
func (o *Options) place(p order.Partition) place {
	kind := o.Partitions.Kind(p)
	topic := o.topic(kind)
	return place{topic: topic, group: topic, queue: int(p - o.Partitions.Each(kind)[0])}
}

// Queue is the queue in RocketMQ. All methods are safe for concurrent use.
type Queue struct {
	options Options
	routes  *routes
	sender  *sender
	asking  map[order.Kind]*line

	published []ends // by partition

	mu        sync.Mutex
	closed    bool
	consumers []*consumer
	left      map[order.Kind][]string // names of members that have left
}

var _ queue.Queue = (*Queue)(nil)

// Open connects, and makes the topics and groups that are not there.
func Open(ctx context.Context, o Options) (*Queue, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Partitions.Count() == 0 || o.Letters == nil {
		return nil, errors.New("rocketqueue needs partitions, and a place for dead letters")
	}
	q := &Queue{options: o, routes: newRoutes(&o, brokerAfter), published: make([]ends, o.Partitions.Count()),
		left: map[order.Kind][]string{}}
	if err := q.routes.settle(ctx, &o); err != nil {
		return nil, fmt.Errorf("open queue %s in RocketMQ: %w", o.Name, err)
	}
	var err error
	if q.sender, err = newSender(&o); err != nil {
		return nil, fmt.Errorf("open queue %s in RocketMQ: %w", o.Name, err)
	}
	q.asking = map[order.Kind]*line{order.Normal: {routes: q.routes, topic: o.topic(order.Normal)}, order.Flash: {routes: q.routes, topic: o.topic(order.Flash)}}
	return q, nil
}

// Identity names the queue: two of one name are the same one.
func (q *Queue) Identity() string { return q.options.Identity() }

// Publish sends one message and returns when the broker has it on its disk.
func (q *Queue) Publish(ctx context.Context, p order.Partition, body []byte) error {
	if err := q.begin(ctx, p); err != nil {
		return err
	}
	if len(body) == 0 || len(body) > queue.MessageMax {
		return fmt.Errorf("a message of %d bytes cannot be published: 1 to %d", len(body), queue.MessageMax)
	}
	at := q.options.place(p)
	route, err := q.routes.place(at.topic)
	if err != nil {
		return err
	}
	offset, err := q.sender.send(ctx, message{at.topic, route.broker, at.queue, body})
	if err == nil {
		q.published[p].note(offset)
	}
	return err
}

// ends is the end of a queue as this process has made it lately. The broker's word for it comes some milliseconds after its
// answer to a send.
type ends struct {
	mu  sync.Mutex
	end int64
	at  time.Time
}

// lately is how long that is believed: a log may also lose its end.
const lately = 2 * time.Second

func (e *ends) note(offset int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if offset >= e.end || time.Since(e.at) > lately {
		e.end, e.at = offset+1, time.Now()
	}
}

func (e *ends) known() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.at) > lately {
		return 0
	}
	return e.end
}

// begin is what every call on a partition looks at first.
func (q *Queue) begin(ctx context.Context, p order.Partition) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if int(p) >= q.options.Partitions.Count() {
		return fmt.Errorf("partition %d does not exist: there are %d", p, q.options.Partitions.Count())
	}
	return q.open()
}

func (q *Queue) open() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return queue.ErrClosed
	}
	return nil
}

// Bury keeps the message in the place that was given for it.
func (q *Queue) Bury(ctx context.Context, d queue.Delivery, reason string) error {
	if err := q.open(); err != nil {
		return err
	}
	return q.options.Letters.Bury(ctx, d, reason)
}

// Letters reads from that place.
func (q *Queue) Letters(ctx context.Context, after queue.LetterID, limit int) ([]queue.Letter, error) {
	if err := q.open(); err != nil {
		return nil, err
	}
	return q.options.Letters.Letters(ctx, after, limit)
}

// Drop deletes from that place.
func (q *Queue) Drop(ctx context.Context, id queue.LetterID) error {
	if err := q.open(); err != nil {
		return err
	}
	return q.options.Letters.Drop(ctx, id)
}

// Backlog is what lies between the committed offset, or what was acknowledged here and is not committed yet, and the end of
// the log. The age is by the broker's clock and ours.
func (q *Queue) Backlog(ctx context.Context, p order.Partition) (queue.Backlog, error) {
	if err := q.begin(ctx, p); err != nil {
		return queue.Backlog{}, err
	}
	l, err := q.asking[q.options.Partitions.Kind(p)].link(ctx)
	if err == nil {
		var b queue.Backlog
		if b, err = q.backlog(ctx, l, p); err == nil {
			return b, nil
		}
	}
	return queue.Backlog{}, fmt.Errorf("backlog of partition %d: %w", p, err)
}

func (q *Queue) backlog(ctx context.Context, l *link, p order.Partition) (b queue.Backlog, err error) {
	at := q.options.place(p)
	from, known, err := l.committed(ctx, at)
	if err == nil && !known {
		from, err = l.min(ctx, at)
	}
	if err != nil {
		return b, err
	}
	end, err := l.max(ctx, at)
	end = max(end, q.published[p].known())
	from = max(from, q.acknowledged(p))
	if err != nil || from >= end {
		return b, err
	}
	b.Messages = end - from
	oldest, err := l.peek(ctx, at, from, 1)
	if err == nil && len(oldest.messages) > 0 {
		b.Oldest = max(0, time.Since(time.UnixMilli(oldest.messages[0].at)))
	}
	return b, err
}

// acknowledged is the offset before which a consumer of this process has acknowledged everything; 0 if there is none.
func (q *Queue) acknowledged(p order.Partition) (offset int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.consumers {
		offset = max(offset, c.acknowledged(p))
	}
	return offset
}

// Close ends the producer and the connections. Publications that are under way are given a moment; later ones get
// queue.ErrClosed. A second Close does nothing.
func (q *Queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	consumers := q.consumers
	q.mu.Unlock()
	var errs []error
	for _, c := range consumers {
		errs = append(errs, c.Close())
	}
	errs = append(errs, q.sender.close())
	for _, l := range q.asking {
		l.close()
	}
	return errors.Join(errs...)
}
