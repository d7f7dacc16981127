package engine

import (
	"errors"
	"fmt"
	"time"

	"sluice/engine/order"
	"sluice/internal/leader"
	"sluice/internal/tracing"
)

// Options are fixed for the life of an engine.
type Options struct {
	Partitions order.Partitions
	Kinds      []order.Kind // the kinds that this process sells; empty means both
	// Deadline is D: an order is answered as placed only if its batch was in the queue within D of its reserve. One
	// value of the deployment, 100 ms to 10 s.
	Deadline time.Duration
	// Exclusive says that no other process can use this fast stock, and that fast stock died with the last one: its
	// first rebuild need not wait D, and no rebuild waits for another owner. True for memstock only.
	Exclusive bool
	// MaxQueueAge is the age of the queue from which a partition answers NotReady: at most half of the queue's
	// retention.
	MaxQueueAge time.Duration
	// Room tells whether there is room for more orders; an error turns new ones away as Overloaded. It is asked once a
	// second. nil means always.
	Room func() error
	// Tracer writes what happened to batches; nil: tracing is off.
	Tracer *tracing.Tracer
	// Leader saves engines the work that another one does already: a rebuild, the look for drift. nil: there is no other.
	Leader leader.Leader
	// Passed, if not nil, is called when a step of a rebuild has taken effect ("begin", "close", "drain", "barrier",
	// "count", "load"), and before each renewal of its claim ("renew"): tests let an engine sleep there.
	Passed func(p order.Partition, step string)
	Tuning Tuning
}

// Tuning may change while the engine runs.
type Tuning struct {
	// Selling are the kinds that are sold now. Orders of the others are NotSold, unless they repeat the key of an accepted
	// one; everything else goes on. Empty: nothing is sold.
	Selling []order.Kind `koanf:"selling"`
	// InFlight is the number of batches of one partition that may be under way at once, 1 to 8: 1 for memstock, 2 for
	// redisstock.
	InFlight int `koanf:"in_flight"`
	// WaitingMax bounds the requests that wait in one partition; more are Overloaded at once. 1 to 1,000,000.
	WaitingMax int `koanf:"waiting_max"`
	// BatchOrdersMax bounds the requests of one batch, 1 to order.BatchOrdersMax.
	BatchOrdersMax int `koanf:"batch_orders_max"`
	// RequestDeadline bounds the time that a request waits before its reserve is sent, 10 ms to 60 s.
	RequestDeadline time.Duration `koanf:"request_deadline"`
	// DriftEvery is the time between two looks for drift, at least 1 s.
	DriftEvery time.Duration `koanf:"drift_every"`
	// RebuildEvery is the age at which an open epoch is rebuilt without other reason, at least 1 minute.
	RebuildEvery time.Duration `koanf:"rebuild_every"`
	// RelayAfter is the age at which an unconfirmed outbox entry is published again, at least 1 s.
	RelayAfter time.Duration `koanf:"relay_after"`
}

// DefaultOptions are those of the embedded default.
func DefaultOptions() Options {
	return Options{
		Partitions:  order.Partitions{Normal: 4, Flash: 4},
		Deadline:    time.Second,
		MaxQueueAge: 2 * time.Hour,
		Tuning: Tuning{
			Selling:         order.Kinds[:],
			InFlight:        1,
			WaitingMax:      20_000,
			BatchOrdersMax:  order.BatchOrdersMax,
			RequestDeadline: 2 * time.Second,
			DriftEvery:      30 * time.Second,
			RebuildEvery:    24 * time.Hour,
			RelayAfter:      3 * time.Second,
		},
	}
}

// Validate reports every option out of its bounds, joined; nil if there is none.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("engine: "+format, args...))
		}
	}
	for _, kind := range o.Kinds {
		check(kind == order.Normal || kind == order.Flash, "kinds: unknown kind %d", kind)
	}
	check(o.Partitions.Normal >= 1 && o.Partitions.Normal <= order.PartitionsMax &&
		o.Partitions.Flash >= 1 && o.Partitions.Flash <= order.PartitionsMax,
		"partitions must be 1 to %d of each kind", order.PartitionsMax)
	check(o.Deadline >= 100*time.Millisecond && o.Deadline <= 10*time.Second, "deadline must be 100ms to 10s")
	check(o.MaxQueueAge >= time.Second, "max_queue_age must be at least 1s")
	return errors.Join(append(errs, o.Tuning.Validate())...)
}

// Validate reports every value out of its bounds, joined; nil if there is none.
func (t *Tuning) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("engine: "+format, args...))
		}
	}
	for _, kind := range t.Selling {
		check(kind == order.Normal || kind == order.Flash, "selling: unknown kind %d", kind)
	}
	check(t.InFlight >= 1 && t.InFlight <= inFlightMax, "in_flight must be 1 to %d", inFlightMax)
	check(t.WaitingMax >= 1 && t.WaitingMax <= 1_000_000, "waiting_max must be 1 to 1000000")
	check(t.BatchOrdersMax >= 1 && t.BatchOrdersMax <= order.BatchOrdersMax,
		"batch_orders_max must be 1 to %d", order.BatchOrdersMax)
	check(t.RequestDeadline >= 10*time.Millisecond && t.RequestDeadline <= time.Minute,
		"request_deadline must be 10ms to 1m")
	check(t.DriftEvery >= time.Second, "drift_every must be at least 1s")
	check(t.RebuildEvery >= time.Minute, "rebuild_every must be at least 1m")
	check(t.RelayAfter >= time.Second, "relay_after must be at least 1s")
	return errors.Join(errs...)
}
