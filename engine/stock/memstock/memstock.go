// Package memstock is fast stock inside the process: the embedded driver of package stock. It has the outcomes, the
// outbox and the rules of the scripts on Redis and no durability: at exit everything is gone, and the next start finds
// every fence missing, so it rebuilds.
//
// One read-write mutex per partition orders its calls; Lookup, Left, Holdings and the other reads share it. Nothing
// blocks on anything else, so a context matters only if it is done when the call begins. The package starts no
// goroutine.
//
// A data set is one Stock. Its identity is a number that no other Stock of the process has. KeysSince is the zero value
// until the first load; a first load is always a lost one, since there was nothing before it.
package memstock

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Stock is fast stock in memory. It implements stock.Stock, whose comments say what the methods do.
type Stock struct {
	now        func() time.Time
	closed     atomic.Bool
	partitions []partition
}

// Options are what a Stock is made from.
type Options struct {
	Partitions order.Partitions
	Now        func() time.Time // the clock of windows and of the records' periods; nil means time.Now
}

var _ stock.Stock = (*Stock)(nil)

// identities numbers the data sets of this process.
var identities atomic.Uint64

// New returns an empty data set: every fence is missing.
func New(o Options) *Stock {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Stock{now: o.Now, partitions: make([]partition, o.Partitions.Count())}
	identity := identities.Add(1)
	for i := range s.partitions {
		p := &s.partitions[i]
		p.number, p.identity = order.Partition(i), identity
		p.empty()
	}
	return s
}

// ErrClosed says that the stock was closed before the call.
var ErrClosed = errors.New("memstock is closed")

// Close makes every later call fail with ErrClosed. Calls under way end as usual. It returns nil.
func (s *Stock) Close() error {
	s.closed.Store(true)
	return nil
}

// partition finds partition n for a call. Its error proves that nothing was executed.
func (s *Stock) partition(ctx context.Context, call string, n order.Partition) (*partition, error) {
	err := ctx.Err()
	switch {
	case s.closed.Load():
		err = ErrClosed
	case err == nil && int(n) >= len(s.partitions):
		err = fmt.Errorf("there are only %d partitions", len(s.partitions))
	}
	if err != nil {
		return nil, refused(call, n, err)
	}
	return &s.partitions[n], nil
}

func refused(call string, n order.Partition, err error) error {
	return &stock.NotExecutedError{Err: fmt.Errorf("%s on partition %d: %w", call, n, err)}
}

func (s *Stock) milli() order.Milli { return order.MilliOf(s.now()) }
