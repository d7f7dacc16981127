package bench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// Run runs a scenario. It gives an error when something could not be run; what was measured and judged is in the report,
// also when the audit failed.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.defaults()
	r := &runner{o: &o, report: &Report{
		Scenario: o.Scenario, Date: time.Now().UTC().Truncate(time.Second), Machine: machine(), Commit: o.Commit,
		Command: o.Command, Generator: o.Generator, Durability: durability(ctx, &o),
	}}
	if r.report.Command == "" {
		r.report.Command = strings.Join(os.Args, " ")
	}
	var err error
	switch o.Scenario {
	case Flash, Batch:
		err = r.flash(ctx)
	case Normal:
		err = r.normal(ctx)
	case Mixed:
		err = r.mixed(ctx)
	case Browse:
		err = r.browse(ctx)
	case SoldOut:
		err = r.soldOut(ctx)
	case Retry:
		err = r.retry(ctx)
	case Ceiling:
		err = r.ceilingOnly(ctx)
	case Compare:
		err = r.compare(ctx)
	case Delay:
		err = r.latency(ctx)
	case Drain:
		err = r.drain(ctx)
	case Rest:
		err = r.rest(ctx)
	case Day:
		err = r.day(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("bench %s: %w", o.Scenario, err)
	}
	for i := range r.report.Cases {
		r.report.Cases[i].summarise()
	}
	return r.report, nil
}

func durability(ctx context.Context, o *Options) string {
	if o.Target == "" && o.Deployment != nil {
		return o.Deployment.Durability(ctx)
	}
	if o.Target != "" || len(o.Args) > 0 {
		return "as configured: see the command"
	}
	return "queue and store: SQLite files, WAL, synchronous=FULL"
}

// runner is one run of a scenario.
type runner struct {
	o      *Options
	report *Report
}

// cases makes one case for every combination of connections and names, in the order in which a round takes them.
func (r *runner) cases(names ...string) {
	for _, connections := range r.o.Connections {
		for _, name := range names {
			r.report.Cases = append(r.report.Cases, Case{
				Name: fmt.Sprintf("%s, %d connections", name, connections), Connections: connections,
			})
		}
	}
}

// rounds adds rounds to all cases, in turn, so that what changes in time meets all of them. one is a round of case i; n
// counts the turns from 0.
func (r *runner) rounds(one func(n, i int, c *Case) (*Round, error)) error {
	for n := range r.o.Rounds {
		for i := range r.report.Cases {
			c := &r.report.Cases[i]
			round, err := one(n, i, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			c.Rounds = append(c.Rounds, *round)
			r.say("round %d of %d, %s: %s", n+1, r.o.Rounds, c.Name, round.line())
		}
	}
	return nil
}

// say tells whoever watches how far the run is.
func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.o.Progress, format+"\n", args...)
}
