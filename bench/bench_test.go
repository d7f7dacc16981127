package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/bench/audit"
	"sluice/bench/load"
)

// options are those of a small run that does not look whether the machine is quiet.
func options(t *testing.T, scenario string) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: builds and runs the program")
	}
	program, err := sluice()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Scenario: scenario, Program: program, Dir: t.TempDir(), Orders: 2000, Connections: []int{16}, Patience: -1}
}

func runBench(t *testing.T, o Options) *Report {
	t.Helper()
	report, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	return report
}

func TestFlash(t *testing.T) {
	o := options(t, Flash)
	o.Limits, o.RateShare = []int{0, 1}, 0.5
	report := runBench(t, o)
	if !report.Passed() || len(report.Cases) != 4 {
		t.Fatalf("%+v", report)
	}
	for i, c := range report.Cases {
		round := c.Rounds[0]
		if round.Sent.Accepted != 2000 || round.Stored < 2000 || c.Rate <= 0 || round.Verdict != passed || round.Record == nil ||
			round.Answer.Count != 2000 || round.DiskAtRest <= 0 || round.MemoryPeak == 0 || len(round.Notes) > 0 {
			t.Errorf("%s: %+v", c.Name, round)
		}
		if maximum := i < 2; maximum != (c.Share > 0 && c.Ceiling > c.Rate) {
			t.Errorf("%s: share %f of %f", c.Name, c.Share, c.Ceiling)
		}
	}
}

// TestBatch sends the orders of a sale through the batch endpoint, half of them too many.
func TestBatch(t *testing.T) {
	o := options(t, Batch)
	o.Lines, o.Units = 50, 1000
	report := runBench(t, o)
	round := report.Cases[0].Rounds[0]
	if !report.Passed() || round.Sent.Sent != 2000 || round.Sent.Refused["sold_out"] < 1000 || round.Stored != 1000 || round.Sent.Unknown != 0 {
		t.Errorf("%+v", round)
	}
	if round.Ceiling <= 0 || round.Share <= 0 {
		t.Errorf("share %f of %f", round.Share, round.Ceiling)
	}
}

// TestNormal buys carts, each of them whole, at a rate.
func TestNormal(t *testing.T) {
	o := options(t, Normal)
	o.Orders, o.Rate = 600, 300
	report := runBench(t, o)
	round := report.Cases[0].Rounds[0]
	if !report.Passed() || round.Sent.Accepted != 600 || round.Share != 0 || round.Series == nil || len(round.Series.Stored) < 2 {
		t.Errorf("%+v", round)
	}
}

// TestBrowse sends people through every page.
func TestBrowse(t *testing.T) {
	o := options(t, Browse)
	o.Rate, o.Duration = 50, 2*time.Second
	report := runBench(t, o)
	round := report.Cases[0].Rounds[0]
	if !report.Passed() || round.Sent.Accepted != 100 || round.Stored != 100 || len(round.Steps) != steps-1 {
		t.Fatalf("%+v", round)
	}
	for i, want := range []int64{100, 100, 50, 50, 100, 50, 50} {
		if s := round.Steps[i]; s.Errors != 0 || s.Answer.Count < want {
			t.Errorf("%+v", s)
		}
	}
}

// TestMixed: a sale that is offered more than the server lets through beside ordinary orders, none of which is refused.
func TestMixed(t *testing.T) {
	o := options(t, Mixed)
	o.Orders, o.Duration, o.Cap = 0, time.Second, 100
	report := runBench(t, o)
	if !report.Passed() || len(report.Cases) != 2 {
		t.Fatalf("%+v", report)
	}
	for _, c := range report.Cases {
		round := c.Rounds[0]
		if o := round.Ordinary; o.Sent.Accepted != 500 || o.Sent.Sent != 500 || o.Bare.Count != 500 || o.Ratio <= 0 {
			t.Errorf("%s: ordinary orders %+v", c.Name, o)
		}
		if round.Sent.Refused["rate_limited"] < 100 || round.Sent.Accepted == 0 || round.Series == nil {
			t.Errorf("%s: %+v", c.Name, round.Sent)
		}
	}
	var text strings.Builder
	if err := report.Text(&text); err != nil || strings.Contains(text.String(), "share 0.000") || strings.Contains(text.String(), "RSS 0 KiB") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// TestFlashCrowd sells few units to many: everybody else is refused, and nobody gets more than the limit.
func TestFlashCrowd(t *testing.T) {
	o := options(t, Flash)
	o.Units, o.Users, o.Limits = 100, 300, []int{1}
	round := runBench(t, o).Cases[0].Rounds[0]
	if round.Stored != 100 || round.Sent.Refused["sold_out"]+round.Sent.Refused["over_limit"] < 1800 || round.Verdict != passed {
		t.Errorf("%+v", round)
	}
}

func TestSoldOut(t *testing.T) {
	report := runBench(t, options(t, SoldOut))
	if len(report.Cases) != 2 || !report.Passed() {
		t.Fatalf("%+v", report)
	}
	for _, c := range report.Cases {
		if round := c.Rounds[0]; round.Sent.Refused["sold_out"] != 2000 || c.Share <= 0 || len(round.Notes) > 0 {
			t.Errorf("%s: %+v", c.Name, round)
		}
	}
}

func TestRetry(t *testing.T) {
	report := runBench(t, options(t, Retry))
	if round := report.Cases[0].Rounds[0]; round.Stored != 200 || round.Sent.Sent != 2000 || round.Verdict != passed {
		t.Errorf("%+v", round)
	}
}

func TestCeiling(t *testing.T) {
	o := options(t, Ceiling)
	o.Rounds, o.Connections, o.Program = 2, []int{4, 8}, os.Args[0]
	report := runBench(t, o)
	for _, c := range report.Cases {
		if len(c.Rounds) != 2 || c.Rate <= 0 || c.Rounds[0].Sent.Accepted != 2000 {
			t.Errorf("%+v", c)
		}
	}
	var text, encoded bytes.Buffer
	if err := report.Text(&text); err != nil || !strings.Contains(text.String(), "bare server, 8 connections, round 2") {
		t.Errorf("%v\n%s", err, text.String())
	}
	var back Report
	if err := report.JSON(&encoded); err != nil || json.Unmarshal(encoded.Bytes(), &back) != nil || back.Cases[1].Rate != report.Cases[1].Rate {
		t.Errorf("%v\n%s", err, encoded.String())
	}
}

func TestWrk(t *testing.T) {
	if _, err := exec.LookPath(Wrk); err != nil {
		t.Skip("wrk is not installed (Debian package wrk)")
	}
	o := options(t, Flash)
	o.Generator, o.Duration, o.Orders = Wrk, time.Second, 50_000
	report := runBench(t, o)
	round := report.Cases[0].Rounds[0]
	if round.Stored < int64(round.Sent.Accepted) || round.Sent.Accepted == 0 || round.Share <= 0 || round.Answer.P99 == 0 || round.Verdict != passed {
		t.Errorf("%+v", round)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"unknown scenario":      {Scenario: "storm"},
		"unknown generator":     {Scenario: Flash, Generator: "ab"},
		"wrk at a rate":         {Scenario: Flash, Generator: Wrk, Rate: 5},
		"target without secret": {Scenario: Flash, Target: "127.0.0.1:1"},
		"negative":              {Scenario: Flash, Connections: []int{-1}},
		"minute of refusals":    {Scenario: SoldOut, Minute: true},
	} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestServerThatDoesNotStart(t *testing.T) {
	_, err := Run(context.Background(), Options{Scenario: Flash, Program: "/bin/false", Dir: t.TempDir(), Patience: -1})
	if err == nil || !strings.Contains(err.Error(), "did not get ready") {
		t.Error(err)
	}
}

func TestSumMetric(t *testing.T) {
	const text = "# TYPE a_total counter\na_total 3\na_total{kind=\"flash\"} 4\na_total_more 5\nb 6\n"
	if n, err := sumMetric([]byte(text), "a_total"); n != 7 || err != nil {
		t.Error(n, err)
	}
	if _, err := sumMetric([]byte(text), "c"); err == nil {
		t.Error("a missing metric must be an error")
	}
}

func TestStoredAtLiesBetweenSamples(t *testing.T) {
	start := time.Now()
	w := &watch{samples: []sample{{start, 0}, {start.Add(time.Second), 100}, {start.Add(3 * time.Second), 500}}}
	var got []float64
	for _, at := range []time.Duration{-time.Second, 0, time.Second / 2, 2 * time.Second, time.Hour} {
		got = append(got, w.storedAt(start.Add(at)))
	}
	if diff := cmp.Diff([]float64{0, 0, 50, 300, 500}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPickCopies(t *testing.T) {
	for _, copies := range []int{1, 3, 5, 7, 10, 12} {
		seen := make([]int, 20)
		pick := pickCopies(20, copies)
		for send := range 20 * copies {
			seen[pick(send)]++
		}
		for key, n := range seen {
			if n != copies {
				t.Errorf("%d copies: key %d is sent %d times", copies, key, n)
			}
		}
	}
}

func TestParseWrk(t *testing.T) {
	out := parseWrk([]byte(`Running 3s test @ http://127.0.0.1:1
  Latency Distribution
     50%  950.00us
     75%    2.05ms
     90%   10.50ms
     99%    1.25s
  14345 requests in 3.02s, 12.00MB read
  Non-2xx or 3xx responses: 45
Requests/sec:   4756.00
`))
	if out.counts.Accepted != 14300 || out.rate != 4756 || out.last != 3020*time.Millisecond ||
		out.answer != (Latency{P50: 0.95, P90: 10.5, P99: 1250, Count: 14345}) {
		t.Errorf("%+v", out)
	}
}

func TestAMinuteHasRequestsForAMinute(t *testing.T) {
	o := Options{Scenario: Flash, Minute: true}
	o.defaults()
	if o.Duration != time.Minute || o.Orders < 60*50_000 {
		t.Errorf("%d orders in %v", o.Orders, o.Duration)
	}
}

func TestMediansAreOfQuietRounds(t *testing.T) {
	c := Case{Rounds: []Round{{Rate: 100, Quiet: true}, {Rate: 1, Quiet: false}, {Rate: 200, Quiet: true}}}
	if c.summarise(); c.Rate != 150 {
		t.Error(c.Rate)
	}
	c = Case{Rounds: []Round{{Rate: 100, Quiet: true}, {Rate: 1}, {Rate: 3}}}
	if c.summarise(); c.Rate != 3 {
		t.Error(c.Rate)
	}
}

func TestLineSaysWhatFailed(t *testing.T) {
	round := &Round{Rate: 5, Quiet: true, Verdict: failed, Audit: &audit.Report{Rules: []audit.Rule{{Name: "kept", Verdict: audit.Pass},
		{Name: "broken", Verdict: audit.Fail, Violations: 2, Examples: []string{"the first", "another"}}}}}
	if got, want := round.line(), "5/s, audit FAILED; broken (2): the first"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	round.Audit.Moving = "it sold"
	if got, want := round.line(), "5/s, audit FAILED: it sold; broken (2): the first"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCeilingAnswersTheSizeAsked holds the bare server to the size of the answers that it stands for.
func TestCeilingAnswersTheSizeAsked(t *testing.T) {
	o := options(t, Ceiling)
	o.Program, o.Orders = os.Args[0], 10
	o.defaults()
	r := &runner{o: &o, report: &Report{}}
	for _, size := range []int{300, 850, 2000} {
		round := &Round{answerSize: size}
		got, err := r.ceilingSize(context.Background(), round)
		if err != nil || got != size {
			t.Errorf("asked for %d bytes, got %d (%v)", size, got, err)
		}
	}
}

// ceilingSize is the size of one answer of the bare server.
func (r *runner) ceilingSize(ctx context.Context, round *Round) (int, error) {
	c, err := r.startCeiling(ctx, round.answerSize)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.stop() }()
	reqs, err := load.Build(load.Spec{Count: 1, Offer: 1, Secret: []byte("x"), Host: "x"})
	if err != nil {
		return 0, err
	}
	res, err := load.Run(ctx, load.Options{Addrs: []string{c.addrs["gateway"]}, Connections: 1}, reqs)
	if err != nil {
		return 0, err
	}
	return res.Size, nil
}
