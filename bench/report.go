package bench

import (
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/bench/audit"
	"sluice/bench/load"
)

// Report is what a bench run found.
type Report struct {
	Scenario   string    `json:"scenario"`
	Date       time.Time `json:"date"`
	Machine    string    `json:"machine"`
	Commit     string    `json:"commit"`
	Command    string    `json:"command"`
	Durability string    `json:"durability"`
	Generator  string    `json:"generator"`
	Cases      []Case    `json:"cases"`
}

// Case is one set of options, its rounds in the order in which they ran, and the medians over the quiet ones (over all,
// if fewer than half were quiet).
type Case struct {
	Name        string  `json:"name"`
	Connections int     `json:"connections"`
	Rounds      []Round `json:"rounds"`
	// Medians. Rate is what the scenario counts: stored orders per second, or refusals. Share is Rate by the ceiling of
	// the same round.
	Rate    float64 `json:"rate"`
	Ceiling float64 `json:"ceiling,omitempty"`
	Share   float64 `json:"share,omitempty"`
	// Times is Rate by that of the naive server in the same round; of compare only.
	Times float64 `json:"times_naive,omitempty"`
}

// Round is one run against the server, and the run of the same bytes against the bare server.
type Round struct {
	Sent    load.Counts `json:"requests"`
	Seconds float64     `json:"seconds"` // first send to last commit, or to the last answer if nothing is stored
	Rate    float64     `json:"rate"`
	// Answers per second of every kind, first send to last answer.
	Answers float64 `json:"answers_per_second"`
	Stored  int64   `json:"stored,omitempty"`
	Ceiling float64 `json:"ceiling,omitempty"`
	Share   float64 `json:"share,omitempty"`
	Times   float64 `json:"times_naive,omitempty"`
	// Latencies in milliseconds: to the answer, and to the durable record of a few orders that asked to wait for it.
	Answer      Latency  `json:"answer_ms"`
	Record      *Latency `json:"record_ms,omitempty"`
	CeilingTime *Latency `json:"ceiling_answer_ms,omitempty"`
	// Recorded is the time from the answer that accepted an order until somebody who looked every millisecond saw it stored;
	// of latency only.
	Recorded *Latency `json:"accepted_to_recorded_ms,omitempty"`
	// Ordinary is of mixed only, Drained of drain, whose ceiling is bare inserts, Idle of rest, whose rate is percent of a
	// core, Day of day; Steps are of those that send people.
	Ordinary *Ordinary `json:"ordinary,omitempty"`
	Drained  *Drained  `json:"drained,omitempty"`
	Idle     []Idle    `json:"idle,omitempty"`
	Day      *DayLog   `json:"day,omitempty"`
	Steps    []Step    `json:"steps,omitempty"`
	// Lost is the share of CPU time that others took, before and after each run.
	Lost  []float64 `json:"lost"`
	Quiet bool      `json:"quiet"`
	// CPU time per request of the server, the bare server and the generator: on a machine that others use too
	// it says more than rates. Memory and disk are the server's. Zero for a target.
	CPU          float64 `json:"server_cpu_us_per_request,omitempty"`
	CeilingCPU   float64 `json:"ceiling_cpu_us_per_request,omitempty"`
	GeneratorCPU float64 `json:"generator_cpu_us_per_request,omitempty"`
	// Processes is all CPU time of the round per stored order, by process; of flash, batch and compare.
	Processes    []Process `json:"processes,omitempty"`
	MemoryBefore int64     `json:"rss_before_bytes,omitempty"`
	MemoryAfter  int64     `json:"rss_after_bytes,omitempty"`
	MemoryPeak   int64     `json:"rss_peak_bytes,omitempty"`
	Disk         int64     `json:"disk_bytes,omitempty"` // write-ahead logs included
	DiskAtRest   float64   `json:"disk_bytes_per_order_at_rest,omitempty"`
	// A minute's first and last ten seconds, stored orders per second.
	First10 float64 `json:"first_10s,omitempty"`
	Last10  float64 `json:"last_10s,omitempty"`
	// Series is the round by the second.
	Series  *Series       `json:"series,omitempty"`
	Notes   []string      `json:"notes,omitempty"`
	Audit   *audit.Report `json:"audit,omitempty"`
	Verdict string        `json:"verdict"`

	answerSize int // bytes, for the ceiling
}

// Latency is percentiles in milliseconds.
type Latency struct {
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
	Count int64   `json:"count"`
}

func latency(h *hdrhistogram.Histogram) Latency {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return Latency{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000, Count: h.TotalCount()}
}

// Passed tells whether every round was audited and passed. No figure of a report that did not is to be published.
func (r *Report) Passed() bool {
	audited := false
	for i := range r.Cases {
		for j := range r.Cases[i].Rounds {
			round := &r.Cases[i].Rounds[j]
			if round.Verdict == failed {
				return false
			}
			audited = audited || round.Verdict == passed
		}
	}
	return audited || r.Scenario == Ceiling
}

// Verdicts of a round.
const (
	passed     = "passed"
	failed     = "FAILED"
	notAudited = "not audited"
)

// JSON writes the report as one JSON object.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// summarise sets the medians.
func (c *Case) summarise() {
	c.Rate = c.median(func(r *Round) float64 { return r.Rate })
	c.Ceiling = c.median(func(r *Round) float64 { return r.Ceiling })
	c.Share = c.median(func(r *Round) float64 { return r.Share })
	c.Times = c.median(func(r *Round) float64 { return r.Times })
}

// median is that of a figure over the quiet rounds, or over all if fewer than half were quiet.
func (c *Case) median(f func(*Round) float64) float64 {
	var quiet, all []float64
	for i := range c.Rounds {
		v := f(&c.Rounds[i])
		all = append(all, v)
		if c.Rounds[i].Quiet {
			quiet = append(quiet, v)
		}
	}
	if 2*len(quiet) < len(all) {
		quiet = all
	}
	return median(quiet)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid]
	}
	return (values[mid-1] + values[mid]) / 2
}
