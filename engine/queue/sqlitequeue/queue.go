package sqlitequeue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Options say where the queue lives and how much it may take. Sizes are in bytes.
type Options struct {
	Path       string // the file; its directory exists
	Partitions order.Partitions
	FreeMin    int64 // of the disk, kept free: below it Publish answers queue.ErrFull. 0: no floor
	WALMax     int64 // of the write-ahead log; default 64 MiB
	MemoryMax  int64 // of messages that wait in memory for their consumer, divided among the partitions; default 64 MiB
}

const (
	walMaxDefault    = 64 << 20
	memoryMaxDefault = 64 << 20
)

// Queue is the queue in a SQLite file. All methods are safe for concurrent use.
type Queue struct {
	options Options
	space   space

	write      sync.Mutex // held by whoever uses file
	file       *file
	broken     error        // set when a transaction could be neither committed nor undone: nothing is published any more
	checkpoint sync.Mutex   // held by whoever copies the WAL into the database
	copier     *conn        // the keeper's
	wal        atomic.Int64 // estimate of the bytes in the WAL that are not yet in the database

	look     sync.Mutex // held by whoever uses backlog
	backlog  *reader
	consumed map[order.Kind]*line

	mu      sync.Mutex
	parts   []*part
	heavy   []*part  // parts with enough acknowledged rows to be worth a deletion; each once
	waiting []*entry // publications, first in first out; the first is the leader's when leading
	riders  []*entry // publications that wait for an ordinary one to go with
	leading bool
	idle    *sync.Cond // on mu: leading became false
	closed  bool

	ordinaryAt time.Time // when the last ordinary message came
	rideMax    time.Duration

	kick   chan struct{} // capacity 1: the WAL is long enough for a checkpoint
	stop   chan struct{}
	keeper sync.WaitGroup
}

var _ queue.Queue = (*Queue)(nil)

// Open opens or creates the file and starts the keeper. Nothing is delivered before a consumer joins.
func Open(ctx context.Context, o Options) (*Queue, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Path == "" || o.Partitions.Count() == 0 {
		return nil, errors.New("sqlitequeue needs a path and partitions")
	}
	if o.WALMax <= 0 {
		o.WALMax = walMaxDefault
	}
	if o.MemoryMax <= 0 {
		o.MemoryMax = memoryMaxDefault
	}
	q := &Queue{options: o, space: space{path: o.Path, min: o.FreeMin}, rideMax: rideMax, kick: make(chan struct{}, 1), stop: make(chan struct{})}
	q.idle = sync.NewCond(&q.mu)
	if err := q.open(); err != nil {
		return nil, fmt.Errorf("open queue %s: %w", o.Path, err)
	}
	q.keeper.Go(q.keep)
	return q, nil
}

func (q *Queue) open() error {
	f, err := openFile(q.options.Path, q.options.Partitions)
	if err != nil {
		return err
	}
	q.file = f
	o := q.options.Partitions
	share := q.options.MemoryMax / int64(o.Count())
	for p := range order.Partition(o.Count()) {
		last, acked, err := f.load(p)
		if err != nil {
			return errors.Join(err, f.close())
		}
		q.parts = append(q.parts, &part{number: p, memoryMax: share, last: last, given: last, acked: acked, retired: acked, spill: last})
	}
	q.consumed = map[order.Kind]*line{order.Normal: {parts: q.parts[:o.Normal]}, order.Flash: {parts: q.parts[o.Normal:]}}
	if q.copier, err = openConn(q.options.Path); err != nil {
		return errors.Join(err, f.close())
	}
	if q.backlog, err = openReader(q.options.Path); err != nil {
		return errors.Join(err, q.copier.close(), f.close())
	}
	return nil
}

// Identity is that of the file: a copy of it has the same.
func (q *Queue) Identity() string { return q.file.identity }

func (q *Queue) part(p order.Partition) (*part, error) {
	if int(p) >= len(q.parts) {
		return nil, fmt.Errorf("partition %d does not exist: there are %d", p, len(q.parts))
	}
	return q.parts[p], nil
}

// Backlog is exact in number; the age comes from the clock of this machine.
func (q *Queue) Backlog(ctx context.Context, p order.Partition) (queue.Backlog, error) {
	if err := ctx.Err(); err != nil {
		return queue.Backlog{}, err
	}
	part, err := q.part(p)
	if err != nil {
		return queue.Backlog{}, err
	}
	q.look.Lock()
	defer q.look.Unlock()
	q.mu.Lock()
	n, acked, closed := int64(part.last-part.acked), part.acked, q.closed
	q.mu.Unlock()
	if closed {
		return queue.Backlog{}, queue.ErrClosed
	}
	if n == 0 {
		return queue.Backlog{}, nil
	}
	at, err := q.backlog.oldest(p, acked)
	if err != nil {
		return queue.Backlog{}, fmt.Errorf("backlog of partition %d: %w", p, err)
	}
	b := queue.Backlog{Messages: n}
	if !at.IsZero() {
		b.Oldest = max(time.Since(at), 0)
	}
	return b, nil
}

func (q *Queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// Close lets running publications finish, writes the acks, empties the WAL and closes the file. Publications that begin
// later get queue.ErrClosed. A second Close does nothing.
func (q *Queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	if len(q.riders) > 0 {
		q.release(q.riders[0])
	}
	for q.leading {
		q.idle.Wait()
	}
	for _, l := range q.consumed {
		l.wakeAll()
	}
	q.mu.Unlock()

	close(q.stop)
	q.keeper.Wait()
	q.write.Lock()
	defer q.write.Unlock()
	q.look.Lock()
	defer q.look.Unlock()
	errs := []error{q.retireAll(), q.backlog.close(), q.copier.close()}
	_, err := q.file.emptyWAL()
	errs = append(errs, err, q.file.close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close queue %s: %w", q.options.Path, err)
	}
	return nil
}
