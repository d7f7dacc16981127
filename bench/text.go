package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/bench/audit"
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "bench %s, %s, commit %s\n%s\n%s\n%s; generator %s on the same machine\n\n", r.Scenario,
		r.Date.Format(time.RFC3339), r.Commit, r.Machine, r.Command, r.Durability, r.Generator)
	if r.Scenario == Rest {
		r.restText(b)
	} else {
		r.medians(b)
	}
	if r.Scenario == Compare || r.Scenario == Drain {
		r.processes(b)
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		for n := range c.Rounds {
			fmt.Fprintf(b, "\n%s, round %d\n", c.Name, n+1)
			c.Rounds[n].text(b, r.unit())
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// medians writes a line for each case.
func (r *Report) medians(b *strings.Builder) {
	times, ceiling := "", "ceiling"
	switch r.Scenario {
	case Compare:
		times = "times naive"
	case Drain:
		ceiling = "bare inserts"
	}
	fmt.Fprintf(b, "%-40s %12s %12s %8s %s\n", "medians of "+r.unit(), "per second", ceiling, "share", times)
	for i := range r.Cases {
		c := &r.Cases[i]
		fmt.Fprintf(b, "%-40s %12.0f %12s %8s", c.Name, c.Rate, orDash("%.0f", c.Ceiling), orDash("%.3f", c.Share))
		if times != "" {
			fmt.Fprintf(b, " %11s", orDash("%.2f", c.Times))
		}
		b.WriteByte('\n')
	}
}

// unit is what a rate of the scenario counts.
func (r *Report) unit() string {
	switch r.Scenario {
	case Rest:
		return "percent of a core"
	case Flash, Batch, Normal, Mixed, Browse, Compare, Delay, Drain, Day:
		return "stored orders"
	case SoldOut:
		return "refusals"
	}
	return "answers"
}

func orDash(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func (round *Round) text(b *strings.Builder, unit string) {
	if round.Idle == nil {
		fmt.Fprintf(b, "  %-16s %.0f/s in %.2f s (%d stored)\n", unit, round.Rate, round.Seconds, round.Stored)
	}
	fmt.Fprintf(b, "  %-16s %d sent, %d with an order, %d unknown%s; %.0f answers/s\n", "requests",
		round.Sent.Sent, round.Sent.Accepted, round.Sent.Unknown, reasons(round.Sent.Refused), round.Answers)
	fmt.Fprintf(b, "  %-16s %s\n", "to the answer", round.Answer)
	if round.Record != nil {
		fmt.Fprintf(b, "  %-16s %s, sent beside the others and stored with them\n", "to the record", *round.Record)
	}
	if round.Recorded != nil {
		fmt.Fprintf(b, "  %-16s %s, from accepted to stored, looked at every millisecond\n", "recorded", *round.Recorded)
	}
	round.compared(b)
	if o := round.Ordinary; o != nil {
		fmt.Fprintf(b, "  %-16s %d sent, %d with an order, %d unknown%s\n", "ordinary orders", o.Sent.Sent, o.Sent.Accepted, o.Sent.Unknown,
			reasons(o.Sent.Refused))
		fmt.Fprintf(b, "  %-16s %s\n", "to the answer", o.Answer)
		fmt.Fprintf(b, "  %-16s %s; p99 of the server %.2f times that\n", "of a bare server", o.Bare, o.Ratio)
	}
	for _, s := range round.Steps {
		fmt.Fprintf(b, "  %-17s %s; %d errors%s, %d repeats%s\n", s.Name, s.Answer, s.Errors, reasons(s.Codes), s.Repeats, reasons(s.Causes))
	}
	if round.CPU > 0 {
		fmt.Fprintf(b, "  %-16s server %.1f us per request, bare server %s, generator %s\n", "CPU",
			round.CPU, orDash("%.1f", round.CeilingCPU), orDash("%.1f", round.GeneratorCPU))
	}
	if round.Day != nil {
		round.Day.text(b, round.Stored)
	}
	if len(round.Processes) > 2 {
		fmt.Fprintf(b, "  %-16s", "CPU per order")
		for _, p := range round.Processes {
			fmt.Fprintf(b, " %s %.1f,", p.Name, p.CPU)
		}
		fmt.Fprintf(b, " all %.1f us\n", cpuOf(round.Processes))
	}
	if round.MemoryPeak > 0 {
		before, stopped := "", ""
		if round.MemoryBefore > 0 {
			before = size(round.MemoryBefore) + " before, "
		}
		if round.DiskAtRest > 0 {
			stopped = fmt.Sprintf(", %.0f B per order when stopped", round.DiskAtRest)
		}
		fmt.Fprintf(b, "  %-16s RSS %s%s after, %s at most; disk %s%s\n", "server", before,
			size(round.MemoryAfter), size(round.MemoryPeak), size(round.Disk), stopped)
	}
	if round.First10 > 0 {
		fmt.Fprintf(b, "  %-16s %.0f/s in the first 10 s, %.0f/s in the last: %.2f\n", "endurance",
			round.First10, round.Last10, round.Last10/round.First10)
	}
	lost := make([]string, len(round.Lost))
	for i, l := range round.Lost {
		lost[i] = fmt.Sprintf("%.0f %%", 100*l)
	}
	fmt.Fprintf(b, "  %-16s %s (lost time before and after each run)\n", map[bool]string{true: "machine quiet", false: "machine NOISY"}[round.Quiet],
		strings.Join(lost, ", "))
	for _, note := range round.Notes {
		fmt.Fprintf(b, "  %-16s %s\n", "note", note)
	}
	if round.Audit != nil {
		fmt.Fprintf(b, "  %s\n", strings.ReplaceAll(strings.TrimSpace(auditText(round)), "\n", "\n  "))
	} else {
		fmt.Fprintf(b, "  %-16s %s\n", "audit", round.Verdict)
	}
}

// compared writes what the round is compared with: bare inserts, or the bare server.
func (round *Round) compared(b *strings.Builder) {
	if d := round.Drained; d != nil {
		fmt.Fprintf(b, "  %-16s %d orders queued at %.0f/s; first commit %.2f s after the start of the persisters; flushes of %.0f orders\n",
			"backlog", d.Queued, d.Queueing, d.FirstAfter, d.Flush)
		fmt.Fprintf(b, "  %-16s %.0f rows/s of %d, share %.3f; %s; %.1f us of CPU a row\n", "bare inserts", d.Bare, d.BareRows, round.Share, d.Loop, d.BareCPU)
	} else if round.Ceiling > 0 {
		share := ""
		if round.Share > 0 {
			share = fmt.Sprintf(", share %.3f", round.Share)
		}
		fmt.Fprintf(b, "  %-16s %.0f/s%s; %s\n", "ceiling", round.Ceiling, share, *round.CeilingTime)
	}
}

// auditText is the summary of a passed audit, and all of one that did not pass.
func auditText(round *Round) string {
	if round.Verdict == passed {
		return round.Audit.Summary()
	}
	b := &strings.Builder{}
	_ = round.Audit.Text(b) // a Builder takes everything
	return b.String()
}

func reasons(refused map[string]int) string {
	b := &strings.Builder{}
	for _, reason := range slices.Sorted(maps.Keys(refused)) {
		fmt.Fprintf(b, ", %d %s", refused[reason], reason)
	}
	return b.String()
}

// line is the round in one line.
func (round *Round) line() string {
	switch {
	case round.Ordinary != nil:
		return "ordinary " + round.Ordinary.Answer.String()
	case round.Idle != nil:
		return fmt.Sprintf("%.2f %% of a core, %s", round.Rate, round.judged())
	}
	s := fmt.Sprintf("%.0f/s", round.Rate)
	if round.Share > 0 {
		s += fmt.Sprintf(" of %.0f/s, share %.3f", round.Ceiling, round.Share)
	}
	if n := round.Sent.Unknown; n > 0 {
		s += fmt.Sprintf(", %d unknown", n)
	}
	if !round.Quiet {
		s += ", machine noisy"
	}
	return s + ", " + round.judged()
}

// judged is the audit's verdict, and what it found first: a long run is told line by line.
func (round *Round) judged() string {
	s := "audit " + round.Verdict
	if round.Verdict != failed || round.Audit == nil {
		return s
	}
	if round.Audit.Moving != "" {
		s += ": " + round.Audit.Moving
	}
	for _, rule := range round.Audit.Rules {
		if rule.Verdict == audit.Fail {
			s += fmt.Sprintf("; %s (%d): %s", rule.Name, rule.Violations, cmp.Or(rule.Examples...))
		}
	}
	return s
}

// String is the percentiles in milliseconds.
func (l Latency) String() string {
	return fmt.Sprintf("p50 %.2f, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.1f ms (%d)", l.P50, l.P90, l.P99, l.P999, l.Max, l.Count)
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
