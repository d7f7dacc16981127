package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/bench/audit"
	"sluice/bench/load"
	"sluice/engine/order"
)

// flash interleaves the rounds of all cases: each is a sale on a new server, then the same bytes on the bare one.
func (r *runner) flash(ctx context.Context) error {
	var names []string
	for _, limit := range r.o.Limits {
		names = append(names, limitName(limit))
	}
	r.cases(names...)
	err := r.rounds(func(n, i int, c *Case) (*Round, error) {
		limit := r.o.Limits[i%len(r.o.Limits)]
		so := saleOptions{connections: c.Connections, limit: limit, lines: r.o.Lines, rate: r.o.Rate}
		if n+i == 0 {
			so.profile = r.o.Profile
		}
		return r.sale(ctx, so)
	})
	if err != nil {
		return err
	}
	return r.shareOfRate(ctx)
}

func limitName(limit int) string {
	if limit == 0 {
		return "no limit"
	}
	return fmt.Sprintf("limit %d", limit)
}

// shareOfRate runs every case once more in an open loop, at a share of the rate at which it stored.
func (r *runner) shareOfRate(ctx context.Context) error {
	if r.o.RateShare <= 0 {
		return nil
	}
	for i := range r.report.Cases { // those of now: it adds to them
		c := r.report.Cases[i]
		c.summarise()
		rate := c.Rate * r.o.RateShare
		so := saleOptions{connections: c.Connections, limit: r.o.Limits[i%len(r.o.Limits)], lines: r.o.Lines, rate: rate}
		round, err := r.sale(ctx, so)
		if err != nil {
			return fmt.Errorf("%s at %.0f/s: %w", c.Name, rate, err)
		}
		name := fmt.Sprintf("%s, open loop at %.0f/s", c.Name, rate)
		r.report.Cases = append(r.report.Cases, Case{Name: name, Connections: c.Connections, Rounds: []Round{*round}})
		r.say("%s: %s", name, round.line())
	}
	return nil
}

// batchCeilingConnections are those of the bare server that batches are compared with: as many as make it fastest.
const batchCeilingConnections = 256

type saleOptions struct {
	connections, limit int
	lines              int // orders of one request; 0: one, not through the batch endpoint
	rate               float64
	profile            string // file for a CPU profile of the server; empty: none, unkept: only to divide its CPU time by
	carts              bool   // ordinary orders instead of a sale
	alone              bool   // not followed by the bare server
	looked             bool   // beside the load, orders are looked at until they are stored
}

// sale is one round.
func (r *runner) sale(ctx context.Context, so saleOptions) (round *Round, err error) {
	round = &Round{Quiet: true}
	s, err := startServer(ctx, r.o)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = s.stop() }()
	spec, err := r.onSale(ctx, s, so)
	if err != nil {
		return nil, err
	}
	reqs, err := load.Build(spec)
	if err != nil {
		return nil, err
	}
	if err := r.sell(ctx, s, so, reqs, round); err != nil {
		return nil, err
	}
	atRest, err := s.stop()
	if err != nil {
		return nil, err
	}
	if round.Stored > 0 {
		round.DiskAtRest = float64(atRest) / float64(round.Stored)
	}
	if so.rate > 0 || so.alone || r.o.Minute || !s.ours() {
		return round, nil // a ceiling says something about a maximum only, and about this machine only
	}
	connections := so.connections
	if so.lines > 0 {
		spec.Lines, connections, round.answerSize = 0, batchCeilingConnections, 0
		if reqs, err = load.Build(spec); err != nil {
			return nil, err
		}
	}
	return round, r.ceilingOf(ctx, connections, reqs, round)
}

// onSale puts on sale what a round is about, and describes its orders.
func (r *runner) onSale(ctx context.Context, s *server, so saleOptions) (load.Spec, error) {
	if so.carts {
		return r.carts(ctx, s)
	}
	units := r.units()
	offer, err := s.createOffer(ctx, units, so.limit)
	spec := r.spec(s, offer)
	spec.Lines = so.lines
	return spec, err
}

// units is how many are on sale in a round.
func (r *runner) units() int64 {
	if r.o.Units == 0 {
		return int64(r.o.Orders) * 2
	}
	return r.o.Units
}

// spec describes the requests of a round.
func (r *runner) spec(s *server, offer order.OfferID) load.Spec {
	return load.Spec{
		Count: r.o.Orders, Users: r.o.Users, Offer: offer, Keyless: r.o.Keyless, Details: r.o.Details,
		Service: s.service, Secret: []byte(s.secret), Expires: time.Now().Add(24 * time.Hour), Seed: r.o.Seed, Host: "sluice",
	}
}

// sell puts the load on the server and fills the round in.
func (r *runner) sell(ctx context.Context, s *server, so saleOptions, reqs *load.Requests, round *Round) error {
	round.MemoryBefore = s.memory("VmRSS")
	base, err := s.stored(ctx)
	if err != nil {
		return err
	}
	r.quietBefore(ctx, round)
	profile := r.startProfile(ctx, s, so.profile)
	used, before := r.startMeter(s.processes()), s.cpu()
	w := startWatch(ctx, s, reqs.Offer())
	others, err := r.startBeside(ctx, s, so, reqs.Spec())
	if err != nil {
		w.stop()
		return errors.Join(err, profile(nil))
	}
	out, err := r.send(ctx, load.Options{Addrs: s.gateways, TLS: s.tls, Connections: so.connections, Rate: so.rate, Duration: r.o.Duration}, reqs, false)
	if stopped := others.stop(); err == nil { // both say the same of a server that is not there
		err = stopped
	}
	if err != nil {
		w.stop()
		return errors.Join(err, profile(nil))
	}
	last, err := w.settle(ctx, base+int64(out.counts.Accepted)+others.accepted(), out.exact)
	if err != nil {
		return errors.Join(err, profile(nil))
	}
	w.note(round)
	if s.ours() {
		round.Processes = used.stop(out.own, last.stored-base)
		round.CPU = (s.cpu() - before) * 1e6 / float64(max(1, out.counts.Answered))
	}
	r.quietAfter(round)
	if err := profile(round); err != nil {
		return err
	}
	out.complete()
	round.fill(out, last.stored-base, last.at)
	others.fill(round)
	if r.o.Minute {
		round.minute(w, out)
	}
	if round.Series != nil {
		round.Series.watched(w, out.start.Add(out.first), last.at)
	}
	round.server(s)
	if out.history != nil {
		out.history = append(out.history, others.history()...)
	}
	return r.judge(ctx, s, round, out.history)
}

// judge has the round audited.
func (r *runner) judge(ctx context.Context, s *server, round *Round, history []audit.Entry) error {
	report, err := s.audit(ctx, history)
	if err != nil {
		return err
	}
	round.Audit, round.Verdict = report, notAudited
	if report != nil {
		round.Verdict = failed
		if report.Passed() {
			round.Verdict = passed
		}
	}
	return nil
}

// fill sets what the generator and the server's count say.
func (round *Round) fill(out *outcome, stored int64, last time.Time) {
	round.Sent, round.Stored, round.Answers, round.Answer = out.counts, stored, out.rate, out.answer
	round.answerSize, round.Series = out.size, out.series
	round.Seconds = (last.Sub(out.start) - out.first).Seconds()
	if stored > 0 && round.Seconds > 0 {
		round.Rate = float64(stored) / round.Seconds
	}
}

// minute compares the first and the last ten seconds of sending.
func (round *Round) minute(w *watch, res *outcome) {
	const span = 10 * time.Second
	if res.last-res.first < 3*span {
		round.Notes = append(round.Notes, "the requests were spent too early to compare a minute's first and last ten seconds")
		return
	}
	from, to := res.start.Add(res.first), res.start.Add(res.last)
	round.First10 = (w.storedAt(from.Add(span)) - w.storedAt(from)) / span.Seconds()
	round.Last10 = (w.storedAt(to) - w.storedAt(to.Add(-span))) / span.Seconds()
}

// server sets what the server used.
func (round *Round) server(s *server) {
	if !s.ours() {
		return
	}
	round.MemoryAfter, round.MemoryPeak = s.memory("VmRSS"), s.memory("VmHWM")
	round.Disk = disk(s.dir)
}

func (r *runner) quietBefore(ctx context.Context, round *Round) {
	lost := awaitQuiet(ctx, r.o.Patience)
	round.Lost = append(round.Lost, lost)
	round.Quiet = round.Quiet && lost < quietBefore
}

func (r *runner) quietAfter(round *Round) {
	lost := spin()
	round.Lost = append(round.Lost, lost)
	round.Quiet = round.Quiet && lost < quietAfter
}
