package engine

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/persist/store"
)

// partition is one partition in this process.
type partition struct {
	e      *Engine
	number order.Partition
	intake *intake

	// session is the epoch that this process sells under; nil while the partition is not open here. Only the keeper
	// sets it to a session; suspect and the keeper set it to nil.
	session atomic.Pointer[session]
	opened  chan struct{} // capacity 1: the partition was opened
	trouble chan struct{} // capacity 1: the keeper should look at once

	flightsMu sync.Mutex
	flights   [inFlightMax]bool // by number: it runs
	landing   bool              // the intake is closed: no new ones

	confirmedMu sync.Mutex
	confirmed   []order.BatchID

	traffic  atomic.Int64  // messages published
	unwell   atomic.Bool   // the last publish failed
	stale    atomic.Bool   // the queue is older than MaxQueueAge
	distrust atomic.Uint64 // the epoch that must be replaced, and all before it: none is adopted
	queueAge atomic.Int64  // nanoseconds
	part     atomic.Pointer[store.Part]

	// Of the keeper alone.
	offers []*Offer   // sorted by id
	known  bool       // the catalogue was read
	seen   uint64     // the catalogue holds the stock log up to here
	sold   bool       // this process has had a session: its publishers may be under way
	news   slog.Level // of what a recovery did; at the start, where every partition has one, nobody needs to read it
	beats  heartbeats
	drift  driftLook

	lastLook, lastTend, lastDrift time.Time
}

// session is one epoch of one partition as this process sells it.
type session struct {
	epoch     order.Epoch
	keysSince stock.KeysSince
	since     order.Milli
	applied   atomic.Uint64
}

func newPartition(e *Engine, p order.Partition) *partition {
	return &partition{e: e, number: p, intake: newIntake(), opened: make(chan struct{}, 1), trouble: make(chan struct{}, 1)}
}

// suspect ends session s if err says that fast stock may not serve it; the keeper recovers. Any other error is left to
// the next call.
func (p *partition) suspect(s *session, err error) {
	var notReady *stock.NotReady
	if errors.As(err, &notReady) {
		if notReady.Why == stock.OfferMissing {
			raise(&p.distrust, uint64(s.epoch))
		}
		p.shut(s)
	}
}

// shut ends session s, if it is still the one that sells, and wakes the keeper.
func (p *partition) shut(s *session) {
	if p.session.CompareAndSwap(s, nil) {
		signal(p.trouble)
	}
}

// open begins a session and wakes the sellers.
func (p *partition) open(s *session) {
	p.session.Store(s)
	signal(p.opened)
	p.intake.signal()
}

// reserved takes from an answer what this process keeps of it.
func (p *partition) reserved(s *session, res *stock.Reserved) {
	raise(&s.applied, res.Applied)
	for _, left := range res.Left {
		if o := p.e.Offer(left.Offer); o != nil {
			o.counts.set(left.Units)
		}
	}
}

// raise sets v to n unless it is there or above.
func raise(v *atomic.Uint64, n uint64) {
	for {
		old := v.Load()
		if old >= n || v.CompareAndSwap(old, n) {
			return
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
