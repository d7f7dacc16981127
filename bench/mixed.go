package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/bench/load"
)

// A sale over an ordinary day.
const (
	mixedOrdinary = 500.0 // ordinary orders per second
	mixedOffered  = 10    // the sale is offered so many times what the server lets through
)

// mixed puts a sale over an ordinary day. The server lets so many orders per second of one offer through; the sale asks
// for ten times that, then for as much as the generator can send. What the ordinary orders notice is compared with the
// bare server under the same flood.
func (r *runner) mixed(ctx context.Context) error {
	floods := []struct {
		name string
		rate float64
	}{
		{fmt.Sprintf("a sale of %.0f/s offered %.0f/s", r.o.Cap, mixedOffered*r.o.Cap), mixedOffered * r.o.Cap},
		{fmt.Sprintf("a sale of %.0f/s offered all that can be sent", r.o.Cap), 0},
	}
	for _, f := range floods {
		r.report.Cases = append(r.report.Cases, Case{Name: f.name, Connections: r.o.Connections[0]})
	}
	return r.rounds(func(_, i int, _ *Case) (*Round, error) { return r.flood(ctx, floods[i].rate) })
}

// Ordinary is what ordinary orders beside a sale notice of it.
type Ordinary struct {
	Sent   load.Counts `json:"requests"`
	Answer Latency     `json:"answer_ms"`
	// Bare is what the bare server gives the same orders under the same flood; Ratio is p99 by its p99.
	Bare  Latency `json:"bare_ms"`
	Ratio float64 `json:"p99_ratio"`
}

// flood is one round; rate is that of the sale, 0: all that can be sent.
func (r *runner) flood(ctx context.Context, rate float64) (*Round, error) {
	o := *r.o
	each := r.o.Cap / float64(max(1, r.o.Gateways)) // every gateway counts for itself
	o.Args = append(append([]string{}, o.Args...), "--set", fmt.Sprintf("gateway.limits.offer.rate=%.0f", each),
		"--set", fmt.Sprintf("gateway.limits.offer.burst=%.0f", each/10))
	s, err := startServer(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = s.stop() }()
	sale, ordinary, err := r.bothKinds(ctx, s, rate)
	if err != nil {
		return nil, err
	}
	round := &Round{Quiet: true, Ordinary: &Ordinary{}}
	base, err := s.stored(ctx)
	if err != nil {
		return nil, err
	}
	r.quietBefore(ctx, round)
	file := ""
	if rate > 0 {
		file = r.o.Profile
	}
	profile := r.startProfile(ctx, s, file)
	before := s.cpu()
	w := startWatch(ctx, s, 0)
	flash, normal, err := r.both(ctx, load.Options{Addrs: s.gateways, TLS: s.tls}, rate, sale, ordinary)
	if err != nil {
		w.stop()
		return nil, errors.Join(err, profile(nil))
	}
	want := base + int64(flash.counts.Accepted+normal.counts.Accepted)
	last, err := w.settle(ctx, want, flash.exact && normal.exact)
	if err != nil {
		return nil, errors.Join(err, profile(nil))
	}
	round.CPU = (s.cpu() - before) * 1e6 / float64(max(1, flash.counts.Answered+normal.counts.Answered))
	r.quietAfter(round)
	if err := profile(round); err != nil {
		return nil, err
	}
	round.fill(flash, last.stored-base, last.at)
	round.Series.watched(w, flash.start.Add(flash.first), last.at)
	round.Ordinary.Sent, round.Ordinary.Answer = normal.counts, normal.answer
	round.server(s)
	if err := r.judge(ctx, s, round, append(flash.history, normal.history...)); err != nil {
		return nil, err
	}
	if _, err := s.stop(); err != nil {
		return nil, err
	}
	return round, r.bareFlood(ctx, rate, sale, ordinary, round)
}

// bothKinds builds the requests of the sale and the ordinary orders beside it.
func (r *runner) bothKinds(ctx context.Context, s *server, rate float64) (sale, ordinary *load.Requests, err error) {
	offer, err := s.createOffer(ctx, 1_000_000_000, 0)
	if err != nil {
		return nil, nil, err
	}
	carts, err := r.carts(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	carts.Count, carts.Users, carts.Seed = int(mixedOrdinary*r.o.Duration.Seconds()), 0, carts.Seed+1<<40
	if ordinary, err = load.Build(carts); err != nil {
		return nil, nil, err
	}
	spec := r.spec(s, offer)
	if rate > 0 {
		spec.Count = int(rate * r.o.Duration.Seconds())
	}
	sale, err = load.Build(spec)
	return sale, ordinary, err
}

// both puts both loads on a server. The sale goes on for as long as the ordinary orders do.
func (r *runner) both(ctx context.Context, to load.Options, rate float64, sale, ordinary *load.Requests) (flash, normal *outcome, err error) {
	type result struct {
		out *outcome
		err error
	}
	done := make(chan result)
	o := to
	o.Connections, o.Rate, o.Duration = r.o.Connections[0], rate, r.o.Duration+time.Second
	go func() {
		res, err := load.Run(ctx, o, sale)
		if err != nil {
			done <- result{nil, err}
			return
		}
		done <- result{outcomeOf(res, sale, nil), nil}
	}()
	to.Connections, to.Rate = ordinaryConnections, mixedOrdinary
	res, err := load.Run(ctx, to, ordinary)
	other := <-done
	if err := errors.Join(err, other.err); err != nil {
		return nil, nil, err
	}
	return other.out, outcomeOf(res, ordinary, nil), nil
}

// bareFlood puts the same loads on the bare server.
func (r *runner) bareFlood(ctx context.Context, rate float64, sale, ordinary *load.Requests, round *Round) error {
	c, err := r.startCeiling(ctx, answerBytes)
	if err != nil {
		return err
	}
	defer func() { _ = c.stop() }()
	r.quietBefore(ctx, round)
	flash, normal, err := r.both(ctx, load.Options{Addrs: []string{c.addrs["gateway"]}}, rate, sale, ordinary)
	if err != nil {
		return fmt.Errorf("bare server: %w", err)
	}
	r.quietAfter(round)
	round.Ceiling, round.CeilingTime = flash.rate, &flash.answer
	round.Ordinary.Bare = normal.answer
	round.Ordinary.Ratio = round.Ordinary.Answer.P99 / max(normal.answer.P99, 0.001)
	return nil
}
