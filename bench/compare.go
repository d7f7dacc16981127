package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sluice/bench/load"
	"sluice/bench/naive"
)

// batchConnections are those of a sale through the batch endpoint; of batch by default.
const batchConnections = 8

// compare runs in turn, on the same databases and the same Redis: a sale with one order per request, the same bytes on
// the bare server and on the naive one, and the sale through the batch endpoint. What a round compares it has measured
// itself.
func (r *runner) compare(ctx context.Context) error {
	connections, limit := r.o.Connections[0], r.o.Limits[0]
	r.report.Cases = []Case{
		{Name: fmt.Sprintf("naive, %d connections", connections), Connections: connections},
		{Name: fmt.Sprintf("one order per request, %d connections", connections), Connections: connections},
		{Name: fmt.Sprintf("%d orders per request, %d connections", r.o.Lines, batchConnections), Connections: batchConnections},
	}
	for n := range r.o.Rounds {
		profile, other := "", ""
		if n == 0 {
			profile, other = cmp.Or(r.o.Profile, unkept), unkept
		}
		one, err := r.sale(ctx, saleOptions{connections: connections, limit: limit, profile: profile})
		if err != nil {
			return fmt.Errorf("one order per request: %w", err)
		}
		peer, err := r.bestNaive(ctx, connections, limit)
		if err != nil {
			return fmt.Errorf("naive: %w", err)
		}
		batch, err := r.sale(ctx, saleOptions{connections: batchConnections, limit: limit, lines: r.o.Lines, profile: other, alone: true})
		if err != nil {
			return fmt.Errorf("batch endpoint: %w", err)
		}
		for i, round := range []*Round{peer, one, batch} {
			round.Ceiling, round.CeilingTime, round.Share = one.Ceiling, one.CeilingTime, round.Rate/max(1, one.Ceiling)
			if round != peer {
				round.Times = round.Rate / max(1, peer.Rate)
			}
			c := &r.report.Cases[i]
			c.Rounds = append(c.Rounds, *round)
			r.say("round %d of %d, %s: %s", n+1, r.o.Rounds, c.Name, round.line())
		}
	}
	return nil
}

// bestNaive is the fastest of the rounds on the naive server with every number of connections to a shard.
func (r *runner) bestNaive(ctx context.Context, connections, limit int) (best *Round, err error) {
	for _, pool := range r.o.NaiveConnections {
		round, err := r.naiveSale(ctx, naiveOptions{connections, limit, pool})
		if err != nil {
			return nil, err
		}
		round.Notes = append(round.Notes, fmt.Sprintf("%d connections to each shard", pool))
		if len(r.o.NaiveConnections) > 1 {
			r.say("naive, %d connections to each shard: %.0f/s, CPU of it and of all %.0f of %.0f us, audit %s", pool, round.Rate,
				round.cpuOf("naive"), cpuOf(round.Processes), round.Verdict)
		}
		if round.Verdict != passed {
			return round, nil
		}
		if best == nil || round.Rate > best.Rate {
			best = round
		}
	}
	return best, nil
}

type naiveOptions struct{ connections, limit, pool int }

// naiveSale is one round on the naive server.
func (r *runner) naiveSale(ctx context.Context, no naiveOptions) (round *Round, err error) {
	place, err := r.o.place(ctx)
	if err != nil {
		return nil, err
	}
	m := &member{name: "naive", role: roleAll}
	s := &server{place: place, secret: random(), keep: r.o.Keep, members: []*member{m}}
	if !s.keep {
		defer func() { err = errors.Join(err, s.remove()) }()
	}
	if place.Naive == nil {
		return nil, errors.New("it runs on MySQL shards and a single Redis only")
	}
	program, err := r.o.program()
	if err != nil {
		return nil, err
	}
	argv := append(append([]string{program, "bench", "naive"}, r.o.Args...), place.Args...)
	argv = append(argv, "--listen", "127.0.0.1:0", "--units", strconv.FormatInt(r.units(), 10), "--limit", strconv.Itoa(no.limit),
		"--naive-connections", strconv.Itoa(no.pool))
	if m.child, err = start(ctx, []string{"SLUICE_JWT_SECRET=" + s.secret}, argv...); err != nil {
		return nil, err
	}
	defer func() { _ = s.endAll() }()
	reqs, err := load.Build(r.spec(s, naive.Offer))
	if err != nil {
		return nil, err
	}
	round = &Round{Quiet: true}
	r.quietBefore(ctx, round)
	used := r.startMeter(s.processes())
	out, err := r.send(ctx, load.Options{Addrs: []string{m.child.addrs["gateway"]}, Connections: no.connections, Duration: r.o.Duration}, reqs, false)
	if err != nil {
		return nil, err
	}
	accepted := int64(out.counts.Accepted)
	round.Processes = used.stop(out.own, accepted)
	r.quietAfter(round)
	out.complete()
	round.fill(out, accepted, out.start.Add(out.last)) // what is answered is stored
	round.CPU = round.cpuOf("naive") * float64(accepted) / float64(max(1, out.counts.Answered))
	if err := s.endAll(); err != nil {
		return nil, err
	}
	return round, r.judgeNaive(ctx, place, out, round)
}

// judgeNaive counts: an answer is a row, and the units of the rows are gone from Redis.
func (r *runner) judgeNaive(ctx context.Context, place *Place, out *outcome, round *Round) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	o := *place.Naive
	o.Units, o.JWTSecret, o.Connections = r.units(), random(), 1
	sold, err := naive.Count(ctx, o)
	if err != nil {
		return err
	}
	round.Verdict = passed
	if accepted := int64(out.counts.Accepted); sold.Orders < accepted || out.exact && sold.Orders != accepted || sold.Units != sold.Taken {
		round.Verdict = failed
		round.Notes = append(round.Notes, fmt.Sprintf("%d answers with an order, %d rows with %d units, %d units gone from Redis",
			accepted, sold.Orders, sold.Units, sold.Taken))
	}
	return nil
}
