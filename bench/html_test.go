package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/bench/load"
)

func report(rate float64) *Report {
	return &Report{Scenario: Flash, Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Command: "sluice bench <flash>", Cases: []Case{{
		Name: "no limit", Rate: rate, Rounds: []Round{{Rate: rate, Verdict: passed, Answer: Latency{P99: 7.5},
			Sent: load.Counts{Refused: map[string]int{"sold_out": 12}},
			Series: &Series{Answered: []float64{rate, rate, 0}, Accepted: []float64{rate, 0, 0}, Stored: []float64{0, rate},
				Refused: map[string][]float64{"sold_out": {0, 12, 0}, "<script>": {1, 0, 0}}, P50: []float64{1, 2, 0}, P99: []float64{3, 4, 0},
				Remaining: []float64{50, 0}}}},
	}}}
}

// The page shows every figure of both reports, draws every series, and escapes what is not its own.
func TestPage(t *testing.T) {
	var alone, both bytes.Buffer
	if err := report(1000).HTML(&alone, nil); err != nil {
		t.Fatal(err)
	}
	if err := report(1000).HTML(&both, report(800)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1000/s", "7.50 ms", "12 sold_out", "sluice bench &lt;flash&gt;", "units left", "&lt;script&gt;", "audit passed"} {
		if !strings.Contains(alone.String(), want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(alone.String(), "<script>") || strings.Contains(alone.String(), `class="old`) {
		t.Error("the page has a foreign script, or a line of another report")
	}
	if n := strings.Count(alone.String(), "<polyline"); n != 8 {
		t.Errorf("%d lines, not 8", n)
	}
	for _, want := range []string{"800/s", "&#43;25 %"} {
		if !strings.Contains(both.String(), want) {
			t.Errorf("the page against another has no %q", want)
		}
	}
	if n := strings.Count(both.String(), `class="old`); n != 8 {
		t.Errorf("%d lines of the other report, not 8", n)
	}
}

// A report that is written as JSON reads as the same.
func TestReadReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	b, err := json.Marshal(report(1000))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(path)
	if diff := cmp.Diff(report(1000), got, cmp.AllowUnexported(Round{})); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	if err := os.WriteFile(path, []byte("no report"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadReport(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("read %v", err)
	}
}
