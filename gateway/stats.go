package gateway

import (
	"sync/atomic"

	"sluice/internal/histogram"
)

// counters are what the gateway counts since its start.
type counters struct {
	in        atomic.Int64
	out       atomic.Int64
	refused   [codesEnd]atomic.Int64
	shortCuts atomic.Int64
	placing   histogram.Histogram // by how long it took
}

// answered counts a request's answer, once.
func (s *counters) answered(c code) {
	if c == codeNone {
		s.out.Add(1)
		return
	}
	s.refused[c].Add(1)
}

// Stats is a snapshot of the counters: In = Out + the sum of Refused + InFlight.
type Stats struct {
	In       int64 // requests, readable or not, and the lines of batches
	Out      int64 // of them served
	InFlight int64
	Refused  map[string]int64 // by the code of the problem document: sluice_requests_refused_total{reason}
	// Limited are those of Refused["rate_limited"], by the limit: global, ip, user, offer.
	Limited map[string]int64
	// ShortCuts are those of Refused["sold_out"] that did not reach the engine.
	ShortCuts int64
	// Placing counts the placings that reached the engine by the time from the whole request to the answer, waiting
	// included.
	Placing histogram.Durations
}

// Stats reads the counters, each for itself: InFlight may be off by what happens meanwhile.
func (g *Gateway) Stats() Stats {
	c := &g.stats
	s := Stats{Out: c.out.Load(), Refused: make(map[string]int64, codesEnd), ShortCuts: c.shortCuts.Load(),
		Placing: c.placing.Durations()}
	done := s.Out
	for code := codeInvalidRequest; code < codesEnd; code++ {
		n := c.refused[code].Load()
		s.Refused[problems[code].name] = n
		done += n
	}
	s.Limited = make(map[string]int64, limitsEnd)
	for name := limitGlobal; name < limitsEnd; name++ {
		s.Limited[limitNames[name]] = g.limiters.refused[name].Load()
	}
	s.In = c.in.Load()
	s.InFlight = s.In - done
	return s
}
