package persist

import (
	"errors"
	"fmt"
	"time"

	"sluice/engine/order"
	"sluice/internal/tracing"
)

// Options are fixed for the life of a Persist.
type Options struct {
	Kinds  []order.Kind    // the kinds that this process stores; empty means both
	Tracer *tracing.Tracer // writes what happened to batches; nil: tracing is off
	Tuning Tuning
}

// Tuning may change while it runs.
type Tuning struct {
	// Writers bounds the user shards of one kind that are written at once, 1 to 64.
	Writers int `koanf:"writers"`
	// FlushOrdersMax is the number of orders from which a flush waits for no more, 1 to 20,000.
	FlushOrdersMax int `koanf:"flush_orders_max"`
	// Linger is how long a flush waits for more at 2,000 orders/s and above, 0 to 1 s; half of it at 500, less below,
	// nothing at rest.
	Linger time.Duration `koanf:"linger"`
	// Unpaid is the time after which an unpaid order expires, 1 s to 30 days.
	Unpaid time.Duration `koanf:"unpaid"`
	// RecordTimeout is the time after which a user shard that does not answer is taken for down, 100 ms to 1 minute.
	RecordTimeout time.Duration `koanf:"record_timeout"`
}

// DefaultOptions are those of the embedded default.
func DefaultOptions() Options {
	return Options{Tuning: Tuning{Writers: 4, FlushOrdersMax: 4_000, Linger: 50 * time.Millisecond,
		Unpaid: 15 * time.Minute, RecordTimeout: 5 * time.Second}}
}

// Validate reports every option out of its bounds, joined; nil if there is none.
func (o *Options) Validate() error { return o.Tuning.Validate() }

// Validate reports every value out of its bounds, joined; nil if there is none.
func (t *Tuning) Validate() error {
	var errs []error
	check := func(ok bool, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("persist: %s", text))
		}
	}
	check(t.Writers >= 1 && t.Writers <= 64, "writers must be 1 to 64")
	check(t.FlushOrdersMax >= 1 && t.FlushOrdersMax <= 20_000, "flush_orders_max must be 1 to 20000")
	check(t.Linger >= 0 && t.Linger <= time.Second, "linger must be 0 to 1s")
	check(t.Unpaid >= time.Second && t.Unpaid <= 30*24*time.Hour, "unpaid must be 1s to 720h")
	check(t.RecordTimeout >= 100*time.Millisecond && t.RecordTimeout <= time.Minute, "record_timeout must be 100ms to 1m")
	return errors.Join(errs...)
}
