package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/bench/load"
	"sluice/gateway/client"
)

// cancelEvery: every so-many-th order of a day is cancelled by its buyer. The others are not paid, and expire.
const cancelEvery = 4

// day is an ordinary day compressed into as long as it takes at the rate.
func (r *runner) day(ctx context.Context) error {
	r.cases(fmt.Sprintf("%d orders at %.0f/s", r.o.Orders, r.o.Rate))
	return r.rounds(func(_, _ int, c *Case) (*Round, error) { return r.oneDay(ctx, c.Connections) })
}

// oneDay is one round.
func (r *runner) oneDay(ctx context.Context, connections int) (*Round, error) {
	o := *r.o
	o.Args = append([]string{"--set", "persist.unpaid=" + o.Unpaid.String()}, o.Args...) // whoever sets it himself has it so
	s, err := startServer(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = s.stop() }()
	spec, err := r.carts(ctx, s)
	if err != nil {
		return nil, err
	}
	spec.Random = true
	reqs, err := load.Describe(spec)
	if err != nil {
		return nil, err
	}
	v, err := newVisitors(s, connections, reqs)
	if err != nil {
		return nil, err
	}
	v.visit = v.shopper
	round := &Round{Quiet: true, MemoryBefore: s.memory("VmRSS")}
	r.quietBefore(ctx, round)
	if err := r.live(ctx, s, v, round); err != nil {
		return nil, err
	}
	r.quietAfter(round)
	round.server(s)
	if err := s.expired(ctx, v, &o, round); err != nil {
		return nil, err
	}
	if err := r.judge(ctx, s, round, v.history); err != nil {
		return nil, err
	}
	if s.judge != nil {
		for i, shard := range shardsOf(s.judge) {
			list, err := shard.Sizes(ctx)
			if err != nil {
				return nil, fmt.Errorf("tables of shard %d: %w", i, err)
			}
			round.Day.Tables = append(round.Day.Tables, list)
		}
	}
	_, err = s.stop()
	return round, err
}

// live sends the visitors and watches the server until all orders are stored.
func (r *runner) live(ctx context.Context, s *server, v *visitors, round *Round) error {
	own, used, before := ownCPU(), r.startMeter(s.processes()), s.cpu()
	log := startDayLog(ctx, s, v, slices.Concat(s.processes(), r.servers()))
	w := startWatch(ctx, s, 0)
	began := time.Now()
	v.run(ctx, r.o.Rate)
	took := time.Since(began)
	own = ownCPU() - own
	counts := v.counts()
	last, err := w.settle(ctx, int64(counts.Accepted), counts.Unknown == 0)
	log.stop()
	if err != nil {
		return err
	}
	w.note(round)
	requests := 0
	round.Steps, requests = v.report()
	round.Sent = counts
	round.Stored, round.Seconds = last.stored, last.at.Sub(began).Seconds()
	round.Rate = float64(round.Stored) / round.Seconds
	round.Answers, round.Answer = float64(requests)/took.Seconds(), latency(v.steps[stepPlace].times)
	round.Day = log.of(w, began)
	if s.ours() {
		round.Processes = used.stop(own, last.stored)
		round.CPU = (s.cpu() - before) * 1e6 / float64(max(1, requests))
	}
	return nil
}

// shopper is the visit of somebody who orders, waits until the order is stored, reads it and looks at all of his, and may
// cancel. He ends what he began: its context is never cancelled.
func (v *visitors) shopper(i int, intended time.Time) {
	ctx, user := context.Background(), v.user(i)
	id := v.place(ctx, i, intended)
	if id == "" {
		return
	}
	v.untilStored(ctx, id, user, false)
	v.do(stepRead, user, time.Now(), func(c *client.Client) error {
		_, err := c.Order(ctx, id, 0)
		return err
	})
	v.list(ctx, user)
	if i%cancelEvery == 0 {
		v.cancel(ctx, id, user)
	}
}

// expiryStands is how much longer than planned nothing may expire until it is taken to be over.
const expiryStands = time.Minute

// expired waits until all orders that were not cancelled have expired: while units come back there is nothing to audit. A
// round in which some do not is left to the audit.
func (s *server) expired(ctx context.Context, v *visitors, o *Options, round *Round) error {
	day, orders := round.Day, max(v.accepted(), round.Stored)
	for moved := time.Now(); ; {
		cancelled, expired, err := s.ended(ctx)
		if err != nil {
			return err
		}
		if cancelled+expired > day.Cancelled+day.Expired {
			moved = time.Now()
		}
		day.Cancelled, day.Expired = cancelled, expired
		if cancelled+expired >= orders {
			return nil
		}
		if time.Since(moved) > o.Unpaid+expiryStands {
			round.Notes = append(round.Notes, fmt.Sprintf("%d orders were cancelled and %d have expired, of %d", cancelled, expired, orders))
			return nil
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// ended are the orders that were cancelled, and those that have expired, by what the processes count.
func (s *server) ended(ctx context.Context) (cancelled, expired int64, err error) {
	for _, c := range s.asked() {
		text, err := c.metrics(ctx)
		if err == nil {
			_, err = eachMetric(text, "sluice_lifecycle_cancelled_total", func(v float64) { cancelled += int64(v) })
		}
		if err == nil {
			_, err = eachMetric(text, "sluice_lifecycle_expired_total", func(v float64) { expired += int64(v) })
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return cancelled, expired, nil
}

// asked are the ops listeners of all processes.
func (s *server) asked() (list []*opsClient) {
	for _, m := range s.members {
		list = append(list, m.ops)
	}
	if len(list) == 0 {
		list = append(list, s.ops)
	}
	return list
}
