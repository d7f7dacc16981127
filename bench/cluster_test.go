package bench

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/bench/tables"
)

// TestMembers names every process of a server, in the order in which orders flow.
func TestMembers(t *testing.T) {
	for want, o := range map[string]Options{
		"sluice": {},
		"gateway 1, gateway 2, persist 1, persist 2, lifecycle": {Gateways: 2, Persisters: 2},
		"gateway, persist 1, persist 2, persist 3, lifecycle":   {Gateways: 1, Persisters: 3},
	} {
		var names []string
		for _, m := range o.members() {
			names = append(names, m.name)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A cluster on files, one that is a target, and a drain of one are refused, with what to do.
func TestClusterNeedsServersThatAreShared(t *testing.T) {
	for name, o := range map[string]Options{
		"cluster on files":  {Scenario: Flash, Gateways: 2},
		"drain on files":    {Scenario: Drain},
		"cluster on target": {Scenario: Flash, Persisters: 1, Target: "a", Ops: "b", JWTSecret: "c", Service: "d"},
		"day on target":     {Scenario: Day, Target: "a", Ops: "b", JWTSecret: "c", Service: "d"},
	} {
		err := o.Validate()
		if err == nil || !strings.Contains(err.Error(), "deploy/local/up") && !strings.Contains(err.Error(), "of its own") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// several is a deployment of processes that say these texts at /metrics.
func several(t *testing.T, texts map[string]func() string) *server {
	t.Helper()
	s := &server{}
	for _, role := range []string{roleGateway, rolePersist, roleLifecycle} {
		for name, text := range texts {
			if !strings.HasPrefix(name, role) {
				continue
			}
			listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text()) }))
			t.Cleanup(listener.Close)
			s.members = append(s.members, &member{name: name, role: role, child: &child{}, ops: newOpsClient(listener.URL, "", nil)})
		}
	}
	s.ops = s.members[0].ops
	return s
}

func says(text string) func() string { return func() string { return text } }

// What is stored is the sum of those that store; lag is the most that anybody tells.
func TestStoredIsASum(t *testing.T) {
	s := several(t, map[string]func() string{
		"gateway":   says("sluice_queue_lag_seconds{kind=\"flash\"} 2\nsluice_queue_lag_seconds{kind=\"normal\"} 0.5\n"),
		"persist 1": says(storedMetric + " 30\nsluice_persist_lag_seconds 0.25\nsluice_persist_flush_orders_sum 30\nsluice_persist_flush_orders_count 1\n"),
		"persist 2": says(storedMetric + " 12\nsluice_persist_lag_seconds 3\nsluice_persist_flush_orders_sum 12\nsluice_persist_flush_orders_count 2\n"),
		"lifecycle": says("nothing 1\n"),
	})
	stored, err := s.stored(t.Context())
	flush, bad := s.meanFlush(t.Context())
	working, wrong := s.working(t.Context())
	if stored != 42 || flush != 14 || working != 2 || s.lag(t.Context()) != 3000 || errors.Join(err, bad, wrong) != nil {
		t.Errorf("stored %d, flushes of %f, %d at work, lag %f (%v)", stored, flush, working, s.lag(t.Context()), errors.Join(err, bad, wrong))
	}
	for _, m := range s.members {
		if m.name == "persist 2" {
			m.child = nil // it does not run
		}
	}
	if stored, err := s.stored(t.Context()); stored != 30 || err != nil {
		t.Errorf("stored %d of those that run, %v", stored, err)
	}
}

// A backlog's rate is from the first commit that was seen, however long the start took, to the last one.
func TestAwaitStored(t *testing.T) {
	counts := []int{0, 0, 0, 100, 250, 250, 300}
	s := several(t, map[string]func() string{"persist": func() string {
		n := counts[0]
		counts = counts[min(1, len(counts)-1):]
		return fmt.Sprintf("%s %d\n", storedMetric, n)
	}})
	first, last, err := s.awaitStored(t.Context(), 300, true)
	if err != nil || first.stored != 100 || last.stored != 300 || !last.at.After(first.at) {
		t.Errorf("%+v %+v %v", first, last, err)
	}
}

func TestADayInParts(t *testing.T) {
	day := &DayLog{Tables: [][]tables.Table{{{Name: "small", Data: 9}, {Name: "orders", Rows: 2, Data: 4000, Indexes: 1000}}, {{Name: "orders", Rows: 3, Data: 6000}}}}
	for i := range 60 {
		day.Seconds = append(day.Seconds, DaySecond{At: float64(i + 1), Span: float64(1 + i%2), Requests: float64(i), Lag: float64(i % 7), Memory: map[string]int64{"x": int64(i) << 20}})
	}
	p := partOf(day.Seconds[5:7]) // 5 and 6 requests/s for 2 seconds and 1
	if p.At != 7 || p.Span != 3 || 3*p.Requests != 16 || p.Lag != 6 || p.Memory["x"] != 6<<20 {
		t.Errorf("%+v", p)
	}
	var b strings.Builder
	day.text(&b, 5)
	text := b.String()
	if strings.Count(text, "\n") != 2+dayLines+2 || strings.Contains(text, "small") || !strings.Contains(text, "2200") {
		t.Errorf("%s", text)
	}
}

// TestRest looks at a server that does nothing.
func TestRest(t *testing.T) {
	o := options(t, Rest)
	o.Orders, o.Duration = 200, time.Second
	report := runBench(t, o)
	round := report.Cases[0].Rounds[0]
	if !report.Passed() || len(round.Idle) != 1 || round.Idle[0].Name != "sluice" || !round.Idle[0].Own || round.Idle[0].Memory == 0 ||
		round.Rate != round.Idle[0].CPU || round.Seconds < 1 {
		t.Errorf("%+v", round)
	}
	var text strings.Builder
	if err := report.Text(&text); err != nil || !strings.Contains(text.String(), "all of these together") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// TestLatency follows some orders from the answer until they are stored.
func TestLatency(t *testing.T) {
	o := options(t, Delay)
	o.Orders, o.Rate, o.Duration = 0, 200, time.Second
	report := runBench(t, o)
	if !report.Passed() || len(report.Cases) != 2 {
		t.Fatalf("%+v", report)
	}
	for _, c := range report.Cases {
		round := c.Rounds[0]
		if round.Recorded == nil || round.Recorded.Count < 10 || round.Recorded.P50 <= 0 || round.Stored < int64(round.Sent.Accepted)+round.Recorded.Count {
			t.Errorf("%s: %+v", c.Name, round)
		}
	}
}

// TestDay lives a short day: every order is stored, and is cancelled or expires.
func TestDay(t *testing.T) {
	o := options(t, Day)
	o.Rate, o.Unpaid = 500, time.Second
	report := runBench(t, o)
	round := report.Cases[0].Rounds[0]
	if !report.Passed() || round.Stored != 2000 || round.Day.Cancelled+round.Day.Expired != 2000 || len(round.Day.Seconds) == 0 {
		t.Fatalf("%+v", round)
	}
	for i, want := range []int64{2000, 2000, 2000, 2000} { // order, wait, read, list
		if s := round.Steps[i]; s.Errors != 0 || s.Answer.Count < want {
			t.Errorf("%+v", s)
		}
	}
	// On a busy machine an order may have expired before its buyer comes to cancel it.
	cancel := round.Steps[4]
	if late := int64(cancel.Codes["not_cancellable"]); int64(cancel.Errors) != late || cancel.Answer.Count != 500 || round.Day.Cancelled != 500-late {
		t.Errorf("%d cancelled: %+v", round.Day.Cancelled, cancel)
	}
	rows := int64(0)
	for _, list := range round.Day.Tables {
		for _, table := range list {
			if table.Name == "orders" {
				rows += table.Rows
			}
		}
	}
	if last := round.Day.Seconds[len(round.Day.Seconds)-1]; rows != 2000 || last.Memory["sluice"] == 0 || cmp.Or(last.Requests, last.Stored) == 0 {
		t.Errorf("%d rows, %+v", rows, last)
	}
	var page strings.Builder
	if err := report.HTML(&page, nil); err != nil || !strings.Contains(page.String(), "memory, MiB") {
		t.Errorf("%v", err)
	}
}
