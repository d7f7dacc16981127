package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/engine/order"
)

// Reason is why a request was not answered with an order: a code of the API, by number so that a result stays small.
type Reason uint8

// reasons are the codes of docs/design.md, section 11; what is not among them counts as "other".
var reasons = [...]string{
	"", "other", "invalid_request", "unauthenticated", "forbidden", "offer_not_found", "order_not_found", "not_found",
	"sold_out", "over_limit", "not_open", "closed", "still_pending", "not_cancellable", "idempotency_key_reused",
	"mixed_groups", "duplicate_item", "quantity_invalid", "rate_limited", "overloaded", "not_ready", "outcome_unknown",
}

// String is the code.
func (r Reason) String() string { return reasons[r] }

func reasonOf(code string) Reason {
	for i := 2; i < len(reasons); i++ {
		if reasons[i] == code {
			return Reason(i)
		}
	}
	return 1
}

// Result is what became of one request. Times count from the start of the run.
type Result struct {
	Order    order.ID // 0 if it was not answered with one
	intended uint32   // microseconds; the run is shorter than 71 minutes
	sent     uint32
	answered uint32
	Code     uint16 // HTTP status; 0: the connection broke or the answer did not come
	Reason   Reason
	done     bool
}

// Done tells whether the request was sent at all.
func (r *Result) Done() bool { return r.done }

// Accepted tells whether it was answered with an order.
func (r *Result) Accepted() bool { return r.Code >= 200 && r.Code < 300 }

// Unknown tells whether it may or may not have had an effect: 504, or no answer.
func (r *Result) Unknown() bool { return r.Code == 0 || r.Code == 504 }

// Sent is the moment of sending, after the start of the run.
func (r *Result) Sent() time.Duration { return time.Duration(r.sent) * time.Microsecond }

// Took is the time to the answer: from the intended moment if a rate was set, else from the send.
func (r *Result) Took() time.Duration { return time.Duration(r.answered-r.intended) * time.Microsecond }

// Answered is the moment of the answer, or of giving up, after the start of the run.
func (r *Result) Answered() time.Duration { return time.Duration(r.answered) * time.Microsecond }

// Results are those of one run, index-aligned with its sends.
type Results struct {
	Start      time.Time
	List       []Result
	Size       int           // bytes of the largest answer with an order
	SizeRefuse int           // of the largest refusal
	Broken     int           // connections that broke
	First      time.Duration // the first send, set by Count
	Last       time.Duration // the last answer, set by Count
}

// Counts are requests by what became of them.
type Counts struct {
	Sent     int            `json:"sent"`
	Answered int            `json:"answered"`
	Accepted int            `json:"accepted"`
	Unknown  int            `json:"unknown"` // 504, or no answer
	Refused  map[string]int `json:"refused,omitempty"`
}

// Count sums the results up and sets First and Last.
func (r *Results) Count() Counts {
	var c Counts
	var refused [len(reasons)]int
	first := ^uint32(0)
	for i := range r.List {
		x := &r.List[i]
		if !x.done {
			continue
		}
		c.Sent++
		first = min(first, x.sent)
		if x.Code != 0 {
			c.Answered++
			r.Last = max(r.Last, x.Answered())
		}
		switch {
		case x.Accepted():
			c.Accepted++
		case x.Unknown():
			c.Unknown++
		default:
			refused[x.Reason]++
		}
	}
	if c.Sent > 0 {
		r.First = time.Duration(first) * time.Microsecond
	}
	for i, n := range refused {
		if n > 0 {
			if c.Refused == nil {
				c.Refused = map[string]int{}
			}
			c.Refused[Reason(i).String()] += n
		}
	}
	return c
}

// Rate is the answered requests per second, from the first send to the last answer.
func (r *Results) Rate() float64 {
	c := r.Count()
	if r.Last <= r.First {
		return 0
	}
	return float64(c.Answered) / (r.Last - r.First).Seconds()
}

// Latency is the histogram, in microseconds, of the time to the answer of those results that keep accepts: from the
// intended moment if a rate was set, else from the send.
func (r *Results) Latency(keep func(*Result) bool) *hdrhistogram.Histogram {
	h := NewHistogram()
	for i := range r.List {
		x := &r.List[i]
		if x.done && x.Code != 0 && keep(x) {
			_ = h.RecordValue(int64(x.answered) - int64(x.intended))
		}
	}
	return h
}

// NewHistogram is a histogram of 1 microsecond to 10 minutes with three digits.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, (10 * time.Minute).Microseconds(), 3)
}
