package audit

import (
	"strings"
	"testing"
	"time"
)

// TestServerThatSellsAllTheTime: rules that need one moment are not judged, and nobody is told that the audit passed.
func TestServerThatSellsAllTheTime(t *testing.T) {
	w := newWorld(t)
	w.settle, w.sells = 300*time.Millisecond, true
	report := w.audit()
	if report.Passed() || len(failed(report)) > 0 || report.Rule(RuleFast).Verdict != NotChecked || report.Rule(RuleAtRest).Verdict != NotChecked ||
		report.Rule(RuleMoney).Verdict != Pass || report.Rule(RuleOversell).Verdict != Pass {
		t.Errorf("%+v", report)
	}
	if s := report.Summary(); !strings.Contains(s, "audit INCOMPLETE: 9 orders") || !strings.HasSuffix(s, "audit again when nobody buys") {
		t.Error(s)
	}
	w.exec(0, "UPDATE orders SET amount = 1")
	if s := w.audit().Summary(); !strings.Contains(s, "audit FAILED") {
		t.Errorf("what is wrong at every moment: %s", s)
	}
}

// TestServerThatIsStuck: a server that does not come to rest although it sells nothing is at fault.
func TestServerThatIsStuck(t *testing.T) {
	w := newWorld(t)
	w.settle = 300 * time.Millisecond
	w.partition(1)["backlog"] = 3
	report := w.audit()
	if report.Moving != "" || report.Passed() || report.Rule(RuleAtRest).Verdict != Fail {
		t.Errorf("%+v", report)
	}
}

// A server that sells one kind is judged by what it sells, and the report says so.
func TestServerOfOneKind(t *testing.T) {
	w := newWorld(t)
	w.fast["partitions"] = w.fast["partitions"].([]map[string]any)[:1] // the normal one
	report := w.audit()
	if !report.Passed() || !strings.Contains(report.Rule(RuleFast).Note, "does not sell") {
		t.Errorf("%+v", report)
	}
	w.partition(0)["left"] = map[string]int{}
	if report = w.audit(); report.Passed() {
		t.Error("an offer that it sells is missing, and nobody says so")
	}
}
