package limit

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Limit is a rate with a burst. It is a plain value; the zero Limit is none: off.
type Limit struct {
	// Rate is how many a second may come in the long run, 0.001 to 10,000,000; 0: no limit. It is kept to a nanosecond
	// between two.
	Rate float64 `koanf:"rate"`
	// Burst is how many may come at once after a rest, 1 to 1,000,000. Without a rate it says nothing.
	Burst int `koanf:"burst"`
}

// Bounds of a Limit.
const (
	RateMin  = 0.001
	RateMax  = 10_000_000
	BurstMax = 1_000_000
)

// On tells whether there is a limit at all.
func (l *Limit) On() bool { return l.Rate > 0 }

// Validate says what is out of bounds, in words that follow the limit's name; nil if nothing is.
func (l *Limit) Validate() error {
	if l.Rate == 0 && l.Burst >= 0 && l.Burst <= BurstMax {
		return nil
	}
	var errs []error
	if math.IsNaN(l.Rate) || l.Rate < RateMin || l.Rate > RateMax {
		errs = append(errs, fmt.Errorf("rate must be 0 (no limit), or %g to %d a second", RateMin, RateMax))
	}
	if l.Burst < 1 || l.Burst > BurstMax {
		errs = append(errs, fmt.Errorf("burst must be 1 to %d", BurstMax))
	}
	return errors.Join(errs...)
}

// interval is the time between two, in nanoseconds. Limits are on here.
func (l *Limit) interval() int64 { return int64(float64(time.Second) / l.Rate) }

// lag is how far the nows of concurrent callers may lie apart without anybody getting more for it.
const lag = int64(time.Second)

// next is the TAT after one more at now, if wait is 0; otherwise one more may come after wait. A TAT that a former,
// slower limit has left is cut to what this one allows at most, so that a change counts at once.
func (l *Limit) next(tat, now int64) (after int64, wait time.Duration) {
	every := l.interval()
	full := every * int64(l.Burst)
	if tat = max(tat, now); tat > now+full+lag {
		tat = now + full
	}
	if wait = time.Duration(tat + every - now - full); wait > 0 {
		return tat, wait
	}
	return tat + every, 0
}
