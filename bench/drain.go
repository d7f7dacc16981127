package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/bench/audit"
	"sluice/bench/load"
	"sluice/bench/tables"
	"sluice/engine/order"
)

// Drained is what a round of drain had beside its rate, which is from the first commit that was seen to the last one.
type Drained struct {
	Queued     int64   `json:"queued"`              // orders in the queue when the persisters were started
	Queueing   float64 `json:"queueing_rate"`       // accepted orders per second until then
	FirstAfter float64 `json:"first_commit_s"`      // seconds from the start of their processes
	Flush      float64 `json:"flush_orders"`        // on average
	Loop       string  `json:"bare_inserts"`        // how the bare loop inserted
	Bare       float64 `json:"bare_rows_per_s"`     // what it came to
	BareRows   int     `json:"bare_rows"`           // orders that it inserted
	BareCPU    float64 `json:"bare_cpu_us_per_row"` // of all servers
}

// drain stops the persisters, queues orders through the gateways, and starts them again.
func (r *runner) drain(ctx context.Context) error {
	r.cases(fmt.Sprintf("a backlog of %d orders", r.o.Orders))
	return r.rounds(func(_, _ int, c *Case) (*Round, error) { return r.backlog(ctx, c.Connections) })
}

// backlog is one round.
func (r *runner) backlog(ctx context.Context, connections int) (*Round, error) {
	s, err := startServer(ctx, r.o)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = s.stop() }()
	spec := r.spec(s, 0)
	spec.Lines = r.o.Lines
	for range r.o.Offers {
		offer, err := s.createOffer(ctx, r.units(), r.o.Limits[0])
		if err != nil {
			return nil, err
		}
		spec.Shops = append(spec.Shops, []order.OfferID{offer})
	}
	reqs, err := load.Build(spec)
	if err != nil {
		return nil, err
	}
	if err := s.end(rolePersist); err != nil {
		return nil, err
	}
	out, err := r.run(ctx, load.Options{Addrs: s.gateways, TLS: s.tls, Connections: connections, Rate: r.o.Rate, Duration: r.o.Duration}, reqs, false)
	if err != nil {
		return nil, err
	}
	round := &Round{Quiet: true, Drained: &Drained{Queued: int64(out.counts.Accepted), Queueing: out.rate}}
	if err := r.storeBacklog(ctx, s, out, round); err != nil {
		return nil, err
	}
	if err := r.judge(ctx, s, round, out.history); err != nil {
		return nil, err
	}
	if err := r.bareInserts(ctx, s, round); err != nil {
		return nil, fmt.Errorf("bare inserts: %w", err)
	}
	_, err = s.stop()
	return round, err
}

// storeBacklog starts the persisters and waits until all is stored.
func (r *runner) storeBacklog(ctx context.Context, s *server, out *outcome, round *Round) error {
	r.quietBefore(ctx, round)
	used := r.startMeter(s.processes())
	began := time.Now()
	if err := s.start(ctx, rolePersist); err != nil {
		return err
	}
	for _, m := range s.members {
		if m.role == rolePersist {
			used = append(used, process{name: m.name, pid: m.child.pid()}) // all that they have used
		}
	}
	first, last, err := s.awaitStored(ctx, round.Drained.Queued, out.exact)
	if err != nil {
		return err
	}
	round.Processes = used.stop(0, last.stored)
	r.quietAfter(round)
	round.Sent, round.Answer, round.Answers, round.Stored = out.counts, out.answer, out.rate, last.stored
	round.Seconds = last.at.Sub(first.at).Seconds()
	if round.Seconds > 0 {
		round.Rate = float64(last.stored-first.stored) / round.Seconds
	} else {
		round.Notes = append(round.Notes, "all was stored before the first look: too few orders for a rate")
	}
	round.Drained.FirstAfter = first.at.Sub(began).Seconds()
	round.Drained.Flush, err = s.meanFlush(ctx)
	round.server(s)
	return err
}

// Looks at a backlog while it is stored: each costs both sides some work.
const (
	drainPoll     = 50 * time.Millisecond
	drainStanding = 30 * time.Second // nothing was stored for so long: there is no more, or it is stuck
)

// awaitStored waits until want orders are stored, or, if it may be more, until no more come. It gives the first moment at
// which there were some, and the last at which there were more than before.
func (s *server) awaitStored(ctx context.Context, want int64, exact bool) (first, last sample, err error) {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for moved := time.Now(); ; {
		n, err := s.stored(ctx)
		now := time.Now()
		switch {
		case err != nil:
			return first, last, err
		case n > last.stored:
			last, moved = sample{now, n}, now
		}
		if first.at.IsZero() {
			first = last
		}
		switch {
		case n >= want && (exact || now.Sub(moved) > standing):
			return first, last, nil
		case now.Sub(moved) > drainStanding:
			return first, last, fmt.Errorf("%d of %d orders were stored, and for %s no more", last.stored, want, drainStanding)
		}
		select {
		case <-ctx.Done():
			return first, last, ctx.Err()
		case <-tick.C:
		}
	}
}

// working is the number of persisters that have stored anything: those that had a partition with a backlog.
func (s *server) working(ctx context.Context) (n int, err error) {
	for _, m := range s.members {
		if m.role != rolePersist {
			continue
		}
		stored, err := m.ops.stored(ctx)
		if err != nil {
			return 0, err
		}
		if stored > 0 {
			n++
		}
	}
	return max(1, n), nil
}

// meanFlush is the orders of a flush on average, since the persisters were started.
func (s *server) meanFlush(ctx context.Context) (float64, error) {
	var orders, flushes int64
	for _, m := range s.members {
		if m.role != rolePersist {
			continue
		}
		text, err := m.ops.metrics(ctx)
		if err != nil {
			return 0, err
		}
		sum, err := sumMetric(text, "sluice_persist_flush_orders_sum")
		count, missing := sumMetric(text, "sluice_persist_flush_orders_count")
		if err := errors.Join(err, missing); err != nil {
			return 0, err
		}
		orders, flushes = orders+sum, flushes+count
	}
	return float64(orders) / float64(max(1, flushes)), nil
}

// bareStatement is the rows of a statement of the bare loop, as in the program's own.
const bareStatement = 100

// bareInserts inserts the orders that the round has stored once more, into tables of the same form in new databases of the
// same servers: as many connections to each shard as there were persisters at work, each of which writes to a shard once at
// a time, and transactions as large as its part of their flushes was.
func (r *runner) bareInserts(ctx context.Context, s *server, round *Round) (err error) {
	place, err := r.o.place(ctx)
	if err != nil {
		return err
	}
	if !r.o.Keep {
		defer func() { err = errors.Join(err, place.Remove(context.WithoutCancel(ctx))) }()
	}
	shards, fresh := shardsOf(s.judge), shardsOf(place.Audit)
	orders := make([]*tables.Orders, len(shards))
	for i := range shards {
		if orders[i], err = shards[i].Orders(ctx); err != nil {
			return err
		}
		if err := orders[i].Prepare(ctx, &fresh[i]); err != nil {
			return err
		}
	}
	working, err := s.working(ctx)
	if err != nil {
		return err
	}
	loop := tables.Loop{Connections: working, Statement: bareStatement, Transaction: max(1, int(round.Drained.Flush)/len(shards))}
	r.quietBefore(ctx, round)
	used, began := r.startMeter(nil), time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for i := range orders {
		g.Go(func() error { return orders[i].Insert(gctx, &fresh[i], loop) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	took := time.Since(began)
	d := round.Drained
	for _, o := range orders {
		d.BareRows += o.Len()
	}
	for _, p := range used.stop(0, int64(d.BareRows)) {
		d.BareCPU += p.CPU
	}
	r.quietAfter(round)
	d.Loop = fmt.Sprintf("%d connections to each of %d shards, %d rows a statement, %d a transaction", loop.Connections, len(shards),
		loop.Statement, loop.Transaction)
	d.Bare = float64(d.BareRows) / took.Seconds()
	round.Ceiling, round.Share = d.Bare, round.Rate/max(1, d.Bare)
	return round.sameRows(ctx, fresh)
}

// shardsOf are the shards that an audit reads.
func shardsOf(o *audit.Options) (list []tables.Shard) {
	for _, place := range o.Shards {
		list = append(list, tables.Shard{Dialect: o.Dialect, Place: place, TLS: o.TLS})
	}
	return list
}

// sameRows fails a round whose bare loop did not insert what it was compared for.
func (round *Round) sameRows(ctx context.Context, shards []tables.Shard) error {
	rows := 0
	for i := range shards {
		n, err := tables.Count(ctx, &shards[i])
		if err != nil {
			return err
		}
		rows += n
	}
	if int64(rows) != round.Stored || rows != round.Drained.BareRows {
		round.Verdict = failed
		round.Notes = append(round.Notes, fmt.Sprintf("%d orders were stored, %d inserted by the bare loop, %d are there", round.Stored,
			round.Drained.BareRows, rows))
	}
	return nil
}
