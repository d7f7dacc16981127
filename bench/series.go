package bench

import (
	"slices"
	"time"

	"sluice/bench/load"
)

// Series is a round by the second: entry i is the second i after the first send.
type Series struct {
	Answered  []float64            `json:"answered"` // answers of every kind
	Accepted  []float64            `json:"accepted"` // answers with an order
	Refused   map[string][]float64 `json:"refused,omitempty"`
	Stored    []float64            `json:"stored,omitempty"` // orders committed
	P50       []float64            `json:"p50_ms"`           // time to the answer, 0 in a second without answers
	P99       []float64            `json:"p99_ms"`
	Remaining []float64            `json:"remaining,omitempty"` // units of the offer on sale, by its page
}

// seriesMax bounds the seconds that are kept.
const seriesMax = 3600

// seconds is the number of entries of a round that took so long; 1 of one in which nothing happened.
func seconds(took time.Duration) int { return max(1, min(int(took/time.Second)+1, seriesMax)) }

// seriesOf sorts results into seconds.
func seriesOf(res *load.Results) *Series {
	_ = res.Count() // sets First and Last
	n := seconds(res.Last - res.First)
	s := &Series{Answered: make([]float64, n), Accepted: make([]float64, n), P50: make([]float64, n), P99: make([]float64, n)}
	times := make([][]float64, n)
	for i := range res.List {
		x := &res.List[i]
		at := int((x.Answered() - res.First) / time.Second)
		if !x.Done() || x.Code == 0 || at < 0 || at >= n {
			continue
		}
		s.Answered[at]++
		times[at] = append(times[at], float64(x.Took().Microseconds())/1000)
		if x.Accepted() {
			s.Accepted[at]++
			continue
		}
		if s.Refused == nil {
			s.Refused = map[string][]float64{}
		}
		name := x.Reason.String()
		if s.Refused[name] == nil {
			s.Refused[name] = make([]float64, n)
		}
		s.Refused[name][at]++
	}
	for i, t := range times {
		if len(t) > 0 {
			slices.Sort(t)
			s.P50[i], s.P99[i] = t[len(t)/2], t[len(t)*99/100]
		}
	}
	return s
}

// watched adds what the server said meanwhile.
func (s *Series) watched(w *watch, from, to time.Time) {
	n := seconds(to.Sub(from))
	s.Stored = make([]float64, n)
	for i := range n {
		at := from.Add(time.Duration(i) * time.Second)
		s.Stored[i] = max(0, w.storedAt(at.Add(time.Second))-w.storedAt(at))
	}
	if len(w.remaining) == 0 {
		return
	}
	s.Remaining = make([]float64, n)
	next := 0
	for i := range n {
		for end := from.Add(time.Duration(i+1) * time.Second); next+1 < len(w.remaining) && w.remaining[next+1].at.Before(end); {
			next++
		}
		s.Remaining[i] = float64(w.remaining[next].stored)
	}
}
