package bench

import (
	"context"
	"fmt"
	"time"

	"sluice/bench/load"
)

// soldOut interleaves rounds of refusals of an offer that is known to be sold out, with and without keys, on one server.
func (r *runner) soldOut(ctx context.Context) error {
	s, err := startServer(ctx, r.o)
	if err != nil {
		return err
	}
	defer func() { _, _ = s.stop() }()
	spec, err := r.sellOut(ctx, s)
	if err != nil {
		return err
	}
	r.cases("without key", "with key")
	err = r.rounds(func(_, i int, c *Case) (*Round, error) {
		spec.Keyless, spec.Seed = i%2 == 0, spec.Seed+uint64(spec.Count)
		reqs, err := load.Build(*spec)
		if err != nil {
			return nil, err
		}
		return r.refusals(ctx, s, c.Connections, reqs)
	})
	if err != nil {
		return err
	}
	_, err = s.stop()
	return err
}

// sellOut creates an offer of one unit, sells it, and returns the requests that ask for another.
func (r *runner) sellOut(ctx context.Context, s *server) (*load.Spec, error) {
	offer, err := s.createOffer(ctx, 1, 0)
	if err != nil {
		return nil, err
	}
	spec := r.spec(s, offer)
	first := spec
	first.Count, first.Seed, first.Wait, first.Users, first.Keyless = 1, spec.Seed+1<<40, recordWait, 0, false
	reqs, err := load.Build(first)
	if err != nil {
		return nil, err
	}
	res, err := load.Run(ctx, load.Options{Addrs: s.gateways, TLS: s.tls, Connections: 1}, reqs)
	if err != nil {
		return nil, err
	}
	if c := res.Count(); c.Accepted != 1 {
		return nil, fmt.Errorf("the one unit could not be sold: %+v", c)
	}
	return &spec, nil
}

// refusals is one round.
func (r *runner) refusals(ctx context.Context, s *server, connections int, reqs *load.Requests) (*Round, error) {
	round := &Round{Quiet: true}
	r.quietBefore(ctx, round)
	cpuBefore := s.cpu()
	out, err := r.run(ctx, load.Options{Addrs: s.gateways, TLS: s.tls, Connections: connections, Rate: r.o.Rate, Duration: r.o.Duration}, reqs, false)
	if err != nil {
		return nil, err
	}
	round.CPU = (s.cpu() - cpuBefore) * 1e6 / float64(max(1, out.counts.Answered))
	r.quietAfter(round)
	round.fill(out, 0, time.Time{})
	round.Seconds, round.Rate = (out.last - out.first).Seconds(), out.rate
	if refused := out.counts.Answered - out.counts.Accepted; refused != out.counts.Answered || out.counts.Unknown > 0 {
		round.Notes = append(round.Notes, "not every request was refused")
	}
	if err := r.judge(ctx, s, round, out.history); err != nil {
		return nil, err
	}
	if r.o.Rate > 0 || !s.ours() {
		return round, nil
	}
	return round, r.ceilingOf(ctx, connections, reqs, round)
}
