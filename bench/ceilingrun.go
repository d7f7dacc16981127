package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"sluice/bench/load"
)

// answerBytes is the size of an answer when none was seen yet.
const answerBytes = 850

// startCeiling starts the bare server as a child process.
func (r *runner) startCeiling(ctx context.Context, size int) (*child, error) {
	program, err := r.o.program()
	if err != nil {
		return nil, err
	}
	return start(ctx, nil, program, "bench", "ceiling", "--listen", "127.0.0.1:0", "--answer-bytes", strconv.Itoa(size))
}

// ceilingOf puts the same bytes on the bare server, which answers as many bytes as the server did.
func (r *runner) ceilingOf(ctx context.Context, connections int, reqs *load.Requests, round *Round) error {
	size := round.answerSize
	if size == 0 {
		size = answerBytes
	}
	c, err := r.startCeiling(ctx, size)
	if err != nil {
		return err
	}
	defer func() { _ = c.stop() }()
	r.quietBefore(ctx, round)
	before := cpu(c.pid())
	out, err := r.run(ctx, load.Options{Addrs: []string{c.addrs["gateway"]}, Connections: connections, Duration: r.o.Duration}, reqs, true)
	if err != nil {
		return fmt.Errorf("ceiling: %w", err)
	}
	answered := float64(max(1, out.counts.Answered))
	round.CeilingCPU = (cpu(c.pid()) - before) * 1e6 / answered
	round.GeneratorCPU = out.own * 1e6 / answered
	r.quietAfter(round)
	round.Ceiling, round.CeilingTime = out.rate, &out.answer
	if round.Sent.Sent == 0 { // the bare server alone
		round.Sent, round.Seconds = out.counts, (out.last - out.first).Seconds()
	}
	if round.Ceiling > 0 {
		round.Share = round.Rate / round.Ceiling
	}
	return nil
}

// ceilingOnly measures the bare server alone.
func (r *runner) ceilingOnly(ctx context.Context) error {
	reqs, err := load.Build(load.Spec{
		Count: r.o.Orders, Users: r.o.Users, Offer: 1, Details: r.o.Details, Secret: []byte("nobody looks"),
		Expires: time.Now().Add(24 * time.Hour), Seed: r.o.Seed, Host: "sluice", Keyless: r.o.Keyless,
	})
	if err != nil {
		return err
	}
	r.cases("bare server")
	return r.rounds(func(_, _ int, c *Case) (*Round, error) {
		round := &Round{Quiet: true, Verdict: notAudited}
		if err := r.ceilingOf(ctx, c.Connections, reqs, round); err != nil {
			return nil, err
		}
		round.Rate, round.Answers, round.Answer = round.Ceiling, round.Ceiling, *round.CeilingTime
		round.CPU = round.CeilingCPU
		round.CeilingTime, round.CeilingCPU, round.Share, round.Ceiling = nil, 0, 0, 0
		return round, nil
	})
}
