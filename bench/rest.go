package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/bench/load"
)

// Idle is what a process uses while nobody asks for anything.
type Idle struct {
	Name   string  `json:"name"`
	Own    bool    `json:"own"` // one of Sluice's, not of the servers that it stands on
	CPU    float64 `json:"percent_of_a_core"`
	Memory int64   `json:"rss_bytes"`
}

// restBefore is how long the server is left alone before it is measured.
const restBefore = 5 * time.Second

// rest sells a little, waits until all is at rest, and looks what the processes use from then on.
func (r *runner) rest(ctx context.Context) error {
	r.cases(fmt.Sprintf("nobody asks, for %s", r.o.Duration))
	return r.rounds(func(_, _ int, c *Case) (*Round, error) { return r.idle(ctx, c.Connections) })
}

// idle is one round.
func (r *runner) idle(ctx context.Context, connections int) (*Round, error) {
	s, err := startServer(ctx, r.o)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = s.stop() }()
	spec, err := r.carts(ctx, s)
	if err != nil {
		return nil, err
	}
	reqs, err := load.Build(spec)
	if err != nil {
		return nil, err
	}
	out, err := r.run(ctx, load.Options{Addrs: s.gateways, TLS: s.tls, Connections: connections}, reqs, false)
	if err != nil {
		return nil, err
	}
	round := &Round{Quiet: true, Sent: out.counts, Answer: out.answer, Answers: out.rate}
	if err := r.judge(ctx, s, round, out.history); err != nil { // it waits until the server is at rest
		return nil, err
	}
	own, others := s.processes(), r.servers()
	if err := pause(ctx, min(restBefore, r.o.Duration)); err != nil {
		return nil, err
	}
	r.quietBefore(ctx, round)
	all := meter(append(own, others...))
	all.begin()
	began := time.Now()
	if err := pause(ctx, r.o.Duration); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	for i, p := range all {
		idle := Idle{Name: p.name, Own: i < len(own), CPU: 100 * (cpu(p.pid) - p.before) / took, Memory: memory(p.pid, "VmRSS")}
		round.Idle = append(round.Idle, idle)
		if idle.Own {
			round.Rate += idle.CPU
		}
	}
	r.quietAfter(round)
	round.Seconds = took
	_, err = s.stop()
	return round, err
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// restText writes what the processes use at rest, of the round with the median.
func (r *Report) restText(b *strings.Builder) {
	fmt.Fprintf(b, "%-40s %12s %12s\n", "at rest", "% of a core", "RSS")
	for i := range r.Cases {
		for _, own := range []bool{true, false} {
			for _, p := range r.Cases[i].typical().Idle {
				if p.Own == own {
					fmt.Fprintf(b, "%-40s %12.2f %12s\n", p.Name, p.CPU, size(p.Memory))
				}
			}
			if own {
				fmt.Fprintf(b, "%-40s %12.2f\n", "all of these together, median", r.Cases[i].Rate)
			}
		}
	}
}
