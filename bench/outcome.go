package bench

import (
	"time"

	"sluice/bench/audit"
	"sluice/bench/load"
)

// outcome is what a generator says about one run.
type outcome struct {
	counts  load.Counts
	start   time.Time // the moment from which first and last count
	first   time.Duration
	last    time.Duration // the last answer
	rate    float64       // answers per second, first send to last answer
	answer  Latency
	size    int     // bytes of an answer
	own     float64 // CPU time of the generator, in seconds
	exact   bool    // what was accepted is known: every request sent was answered
	history []audit.Entry
	series  *Series // nil of wrk
	// rest sets answer, history and series. It takes a core for a while, so it is for a moment at which nothing is measured.
	rest func()
}

// outcomeOf sums up a run of bench/load. pick is that of the load; nil: send i was request i.
func outcomeOf(res *load.Results, reqs *load.Requests, pick func(int) int) *outcome {
	out := countsOf(res, reqs, pick)
	out.complete()
	return out
}

// countsOf is outcomeOf without what complete sets.
func countsOf(res *load.Results, reqs *load.Requests, pick func(int) int) *outcome {
	keep, size := (*load.Result).Accepted, res.Size
	counts := res.Count()
	if 2*counts.Accepted < counts.Answered {
		keep, size = func(x *load.Result) bool { return !x.Accepted() }, res.SizeRefuse
	}
	out := &outcome{counts: counts, start: res.Start, first: res.First, last: res.Last, rate: res.Rate(), size: size, exact: counts.Unknown == 0}
	out.rest = func() {
		out.answer, out.history, out.series = latency(res.Latency(keep)), historyOf(res, reqs, pick), seriesOf(res)
	}
	return out
}

func (o *outcome) complete() {
	if o.rest != nil {
		o.rest()
		o.rest = nil
	}
}

// historyOf is what the clients saw.
func historyOf(res *load.Results, reqs *load.Requests, pick func(int) int) []audit.Entry {
	list := make([]audit.Entry, 0, len(res.List))
	start := res.Start.UnixMicro()
	for i := range res.List {
		x := &res.List[i]
		if !x.Done() {
			continue
		}
		at := i
		if pick != nil {
			at = pick(i)
		}
		list = append(list, audit.Entry{
			User: reqs.User(at), Key: reqs.Key(at), Order: x.Order, Units: int64(reqs.Units(at)), Code: int(x.Code),
			Sent: start + x.Sent().Microseconds(), Answered: start + x.Answered().Microseconds(),
		})
	}
	return list
}
