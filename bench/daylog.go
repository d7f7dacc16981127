package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/bench/tables"
)

// DayLog is a day by the second, and what is left of it.
type DayLog struct {
	Seconds []DaySecond      `json:"seconds"`
	Tables  [][]tables.Table `json:"tables"` // of each shard, at the end; none if they are elsewhere
	// What became of the orders, by what the server counted.
	Cancelled int64 `json:"cancelled"`
	Expired   int64 `json:"expired"`
}

// DaySecond is what was seen at the end of a second after the first visit.
type DaySecond struct {
	At       float64 `json:"at_s"`
	Span     float64 `json:"span_s"` // since the one before: about a second
	Requests float64 `json:"requests_per_s"`
	Stored   float64 `json:"stored_per_s"`
	// Lag is the age of the oldest order of the last flush when it was committed, or of the oldest message that is not stored:
	// whichever is more, in milliseconds.
	Lag    float64          `json:"lag_ms"`
	Memory map[string]int64 `json:"rss_bytes"`
}

// dayLog looks at the processes once a second.
type dayLog struct {
	seconds []dayLook
	cancel  context.CancelFunc
	running sync.WaitGroup
}

type dayLook struct {
	at       time.Time
	requests int64 // since the first visit
	lag      float64
	memory   map[string]int64
}

func startDayLog(ctx context.Context, s *server, v *visitors, processes []process) *dayLog {
	l := &dayLog{}
	ctx, l.cancel = context.WithCancel(ctx)
	l.running.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for ctx.Err() == nil {
			look := dayLook{memory: map[string]int64{}, requests: v.made.Load(), lag: s.lag(ctx), at: time.Now()}
			for _, p := range processes {
				look.memory[p.name] += memory(p.pid, "VmRSS")
			}
			if l.seconds = append(l.seconds, look); len(l.seconds) > seriesMax {
				return
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	return l
}

// stop ends the looks.
func (l *dayLog) stop() {
	l.cancel()
	l.running.Wait()
}

// lag is the largest that any process tells, in milliseconds; one that does not answer tells none.
func (s *server) lag(ctx context.Context) (most float64) {
	for _, c := range s.asked() {
		text, err := c.metrics(ctx)
		if err != nil {
			continue
		}
		for _, name := range []string{"sluice_queue_lag_seconds", "sluice_persist_lag_seconds"} {
			_, _ = eachMetric(text, name, func(v float64) { most = max(most, 1000*v) }) // what is no number is left out
		}
	}
	return most
}

// of is the log by the second. Looks that a busy server held up follow each other closely; those are left out.
func (l *dayLog) of(w *watch, began time.Time) *DayLog {
	day := &DayLog{}
	if len(l.seconds) == 0 {
		return day
	}
	from := l.seconds[0]
	for _, to := range l.seconds[1:] {
		span := to.at.Sub(from.at).Seconds()
		if span < 0.5 {
			continue
		}
		day.Seconds = append(day.Seconds, DaySecond{At: to.at.Sub(began).Seconds(), Span: span, Requests: float64(to.requests-from.requests) / span,
			Stored: (w.storedAt(to.at) - w.storedAt(from.at)) / span, Lag: to.lag, Memory: to.memory})
		from = to
	}
	return day
}

// dayLines is how many lines of a day's log are printed.
const dayLines = 20

// text writes a day: a line for each of dayLines parts of it, with what was the most in that part, and the tables.
func (d *DayLog) text(b *strings.Builder, orders int64) {
	var names []string
	if len(d.Seconds) > 0 {
		for name := range d.Seconds[len(d.Seconds)-1].Memory {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	fmt.Fprintf(b, "  %-16s %d cancelled, %d expired\n", "orders", d.Cancelled, d.Expired)
	fmt.Fprintf(b, "  %8s %10s %9s %10s", "until s", "requests/s", "stored/s", "lag ms max")
	for _, name := range names {
		fmt.Fprintf(b, " %14s", name)
	}
	b.WriteByte('\n')
	per := (len(d.Seconds) + dayLines - 1) / dayLines
	for from := 0; from < len(d.Seconds); from += per {
		part := d.Seconds[from:min(from+per, len(d.Seconds))]
		p := partOf(part)
		fmt.Fprintf(b, "  %8.0f %10.0f %9.0f %10.0f", p.At, p.Requests, p.Stored, p.Lag)
		for _, name := range names {
			fmt.Fprintf(b, " %14s", size(p.Memory[name]))
		}
		b.WriteByte('\n')
	}
	d.tablesText(b, orders)
}

// partOf sums seconds up: means of what flows, the most of lag and memory.
func partOf(part []DaySecond) DaySecond {
	sum := DaySecond{At: part[len(part)-1].At, Memory: map[string]int64{}}
	for _, s := range part {
		sum.Span += s.Span
		sum.Requests += s.Requests * s.Span
		sum.Stored += s.Stored * s.Span
		sum.Lag = max(sum.Lag, s.Lag)
		for name, n := range s.Memory {
			sum.Memory[name] = max(sum.Memory[name], n)
		}
	}
	sum.Requests, sum.Stored = sum.Requests/sum.Span, sum.Stored/sum.Span
	return sum
}

// tablesText writes the tables, the largest first, without those that are no hundredth of all: what they have in all shards
// and for an order, then what each shard has.
func (d *DayLog) tablesText(b *strings.Builder, orders int64) {
	if len(d.Tables) == 0 {
		return
	}
	sums, all := d.sums(), int64(0)
	for _, t := range sums {
		all += t.Data + t.Indexes
	}
	fmt.Fprintf(b, "  %-16s %10s %10s %10s %10s   by shard\n", "table", "rows", "data", "indexes", "B an order")
	for _, t := range sums {
		if 100*(t.Data+t.Indexes) < all {
			break
		}
		fmt.Fprintf(b, "  %-16s %10d %10s %10s %10.0f  ", t.Name, t.Rows, size(t.Data), size(t.Indexes), float64(t.Data+t.Indexes)/float64(max(1, orders)))
		for _, list := range d.Tables {
			for _, at := range list {
				if at.Name == t.Name {
					fmt.Fprintf(b, " %s + %s", size(at.Data), size(at.Indexes))
				}
			}
		}
		b.WriteByte('\n')
	}
}

// sums are the tables over all shards, the largest first.
func (d *DayLog) sums() (sums []tables.Table) {
	for _, list := range d.Tables {
		for _, t := range list {
			at := slices.IndexFunc(sums, func(s tables.Table) bool { return s.Name == t.Name })
			if at < 0 {
				sums = append(sums, t)
				continue
			}
			s := &sums[at]
			s.Rows, s.Data, s.Indexes = s.Rows+t.Rows, s.Data+t.Data, s.Indexes+t.Indexes
		}
	}
	slices.SortFunc(sums, func(a, b tables.Table) int { return cmp.Compare(b.Data+b.Indexes, a.Data+a.Indexes) })
	return sums
}

// curves are what is drawn of a day.
func (d *DayLog) curves() (rates, lag, memory []curve) {
	var requests, stored, lags []float64
	by := map[string][]float64{}
	var names []string
	for _, s := range d.Seconds {
		requests, stored, lags = append(requests, s.Requests), append(stored, s.Stored), append(lags, s.Lag)
		for name, n := range s.Memory {
			by[name] = append(by[name], float64(n)/(1<<20))
		}
	}
	for name := range by {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		memory = append(memory, curve{name: name, colour: i % colours, now: by[name]})
	}
	return []curve{{name: "requests", now: requests}, {name: "stored", colour: 2, now: stored}}, []curve{{name: "lag", colour: 3, now: lags}}, memory
}
