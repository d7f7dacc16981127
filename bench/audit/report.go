package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Verdict is the outcome of one rule.
type Verdict string

// The verdicts. NotChecked is never a pass: what the rule needs was not given.
const (
	Pass       Verdict = "pass"
	Fail       Verdict = "fail"
	NotChecked Verdict = "not checked"
)

// Rule is one rule's verdict. Checked counts what was looked at, Violations what was wrong; Examples are a few of those.
type Rule struct {
	Name       string   `json:"rule"`
	Verdict    Verdict  `json:"verdict"`
	Checked    int      `json:"checked"`
	Violations int      `json:"violations,omitempty"`
	Examples   []string `json:"examples,omitempty"`
	Note       string   `json:"note,omitempty"`
}

// Report is the verdict of an audit, one entry per rule in a fixed order.
type Report struct {
	At     time.Time `json:"at"`
	Orders int       `json:"orders"` // stored, of every status
	Rules  []Rule    `json:"rules"`
	// Moving says why there was no moment at rest to judge; empty if there was one, or if the server is at fault for it.
	Moving string `json:"moving,omitempty"`
}

// Passed tells whether no rule was violated, at rest. Rules that were not checked do not count: see Rules.
func (r *Report) Passed() bool { return r.Moving == "" && !r.failed() }

func (r *Report) failed() bool {
	for i := range r.Rules {
		if r.Rules[i].Verdict == Fail {
			return true
		}
	}
	return false
}

// Rule is the verdict of the rule of this name; the zero Rule if there is none.
func (r *Report) Rule(name string) Rule {
	for _, rule := range r.Rules {
		if rule.Name == name {
			return rule
		}
	}
	return Rule{}
}

// Summary is the verdict in one line.
func (r *Report) Summary() string {
	counts := map[Verdict]int{}
	for i := range r.Rules {
		counts[r.Rules[i].Verdict]++
	}
	verdict, again := "passed", ""
	switch {
	case r.failed():
		verdict = "FAILED"
	case r.Moving != "":
		verdict, again = "INCOMPLETE", ": "+r.Moving+"; audit again when nobody buys"
	}
	return fmt.Sprintf("audit %s: %d orders, %d rules passed, %d failed, %d not checked%s",
		verdict, r.Orders, counts[Pass], counts[Fail], counts[NotChecked], again)
}

// Text writes one line per rule, counter-examples below it, and the summary.
func (r *Report) Text(w io.Writer) error {
	for i := range r.Rules {
		rule := &r.Rules[i]
		line := fmt.Sprintf("%-11s  %s", rule.Verdict, rule.Name)
		if rule.Verdict != NotChecked {
			line += fmt.Sprintf(" (%d)", rule.Checked)
		}
		if rule.Note != "" {
			line += ": " + rule.Note
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
		for _, e := range rule.Examples {
			_, _ = fmt.Fprintf(w, "             - %s\n", e)
		}
		if more := rule.Violations - len(rule.Examples); more > 0 {
			_, _ = fmt.Fprintf(w, "             - and %d more\n", more)
		}
	}
	_, err := fmt.Fprintln(w, r.Summary())
	return err
}

// JSON writes the report as one JSON object.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// examplesMax bounds the counter-examples that a rule shows.
const examplesMax = 5

// finding collects what one rule sees.
type finding struct {
	rule Rule
	skip bool
}

func (f *finding) checked(n int) { f.rule.Checked += n }

func (f *finding) violation(format string, args ...any) {
	f.rule.Violations++
	if len(f.rule.Examples) < examplesMax {
		f.rule.Examples = append(f.rule.Examples, fmt.Sprintf(format, args...))
	}
}

func (f *finding) notChecked(why string) { f.skip, f.rule.Note = true, why }

func (f *finding) result() Rule {
	switch {
	case f.rule.Violations > 0:
		f.rule.Verdict = Fail
	case f.skip:
		f.rule.Verdict = NotChecked
	default:
		f.rule.Verdict = Pass
	}
	return f.rule
}
