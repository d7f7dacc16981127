package bench

import (
	"context"
	"fmt"
	"time"

	"sluice/bench/load"
)

// browse sends people: visits at a rate, each of them at least five requests.
func (r *runner) browse(ctx context.Context) error {
	r.cases(fmt.Sprintf("%.0f visits/s", r.o.Rate))
	return r.rounds(func(_, _ int, c *Case) (*Round, error) { return r.visits(ctx, c.Connections) })
}

// visits is one round.
func (r *runner) visits(ctx context.Context, connections int) (*Round, error) {
	s, err := startServer(ctx, r.o)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = s.stop() }()
	spec, err := r.carts(ctx, s)
	if err != nil {
		return nil, err
	}
	spec.Count = int(r.o.Rate * r.o.Duration.Seconds())
	reqs, err := load.Describe(spec)
	if err != nil {
		return nil, err
	}
	base, err := s.stored(ctx)
	if err != nil {
		return nil, err
	}
	round := &Round{Quiet: true}
	r.quietBefore(ctx, round)
	profile := r.startProfile(ctx, s, r.o.Profile)
	before := s.cpu()
	w := startWatch(ctx, s, 0)
	v, err := newVisitors(s, connections, reqs)
	if err != nil {
		return nil, err
	}
	v.visit = v.browse
	began := time.Now()
	v.run(ctx, r.o.Rate)
	took := time.Since(began)
	counts := v.counts()
	last, err := w.settle(ctx, base+int64(counts.Accepted), counts.Unknown == 0)
	if err != nil {
		return nil, err
	}
	w.note(round)
	r.quietAfter(round)
	if err := profile(round); err != nil {
		return nil, err
	}
	round.Sent = counts
	round.Stored, round.Seconds = last.stored-base, last.at.Sub(began).Seconds()
	round.Rate = float64(round.Stored) / round.Seconds
	requests := 0
	round.Steps, requests = v.report()
	round.Answers, round.Answer = float64(requests)/took.Seconds(), latency(v.steps[stepOffer].times)
	round.CPU = (s.cpu() - before) * 1e6 / float64(max(1, requests))
	round.server(s)
	if err := r.judge(ctx, s, round, v.history); err != nil {
		return nil, err
	}
	_, err = s.stop()
	return round, err
}
