package ops_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sluice/engine/order"
	"sluice/gateway/ops"
	"sluice/persist/store"
)

// audited is a line of the audit log.
type audited struct {
	Time, Event, Who, Peer, Method, Path, Code string
	ID                                         string `json:"request_id"`
	Status                                     int
	Missed                                     int64
	Changes                                    json.RawMessage
}

// records are the lines of the audit log, each whole.
func (l *listener) records() (list []audited) {
	l.t.Helper()
	b, err := os.ReadFile(l.audit)
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var r audited
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil || r.Time == "" || r.ID == "" || r.Peer == "" || r.Method == "" || r.Path == "" || line[len(line)-1] != '\n' {
			l.t.Fatalf("%v: %q", err, line)
		}
		list = append(list, r)
	}
	return list
}

// last wants the call that was made last to be written down as asked and as answered, with these changes.
func (l *listener) last(who string, status int, changes string) {
	l.t.Helper()
	list := l.records()
	if len(list) < 2 {
		l.t.Fatalf("%d lines", len(list))
	}
	asked, done := list[len(list)-2], list[len(list)-1]
	if asked.Event != "asked" || asked.Status != 0 || asked.Changes != nil || done.Event != "answered" || asked.ID != done.ID ||
		asked.Who != who || done.Who != who || done.Status != status || string(done.Changes) != changes || asked.Path != done.Path || asked.Method != done.Method {
		l.t.Errorf("%+v\n%+v\nwant %s %d %s", asked, done, who, status, changes)
	}
}

// TestAuditLog: every call that may change something is written down with who asked and what has become of it; reads are not,
// and nothing is written that is secret or personal.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	parked := newParking()
	l := start(t, func(p *ops.Program) {
		p.Parked, p.Letters = parked, tollLetters{&toll{}}
		p.Rebuild = func(context.Context, []order.Partition) error { return nil }
		p.Reload = func(dry bool) (any, error) {
			return map[string]any{"dry_run": dry, "changes": []any{}, "secrets": []string{"ops_token"}, "generation": 2, "hash": "0"}, nil
		}
	})
	l.server.Trust([]ops.Token{{Secret: token}, {Name: "alice", Secret: "alice-0123456789"}})
	for _, c := range []struct {
		who, call, body string
		status          int
		changes         string
	}{
		{"token 1", "POST /ops/offers", good, 201, `[{"what":"offer 1","to":{"closes_at":null,"currency":"CNY","kind":"flash","opens_at":"2026-11-11T12:00:00Z",` +
			`"per_user_limit":1,"shop_id":"1","sku":"s","total":10,"unit_price":100}}]`},
		{"alice", "PATCH /ops/offers/1", `{"total":12,"title":"t"}`, 200, `[{"what":"offer 1","field":"total","from":10,"to":12}]`},
		{"alice", "PATCH /ops/offers/1", `{"total":11}`, 200, `[{"what":"offer 1","field":"total","from":12,"to":11}]`},
		{"alice", "PATCH /ops/offers/1", `{"total":-1}`, 400, ""},
		{"alice", "PATCH /ops/offers/2?dry_run=1", `{"total":1}`, 400, ""},
		{"alice", "PATCH /ops/offers/2", `{"total":1}`, 404, ""},
		{"alice", "POST /ops/rebuild", `{"partitions":[0,1]}`, 202, `[{"what":"fast stock","field":"partitions","to":[0,1]}]`},
		{"alice", "POST /ops/reload", "", 200, `[{"what":"configuration","to":{"changes":[],"dry_run":false,"generation":2,"hash":"0","secrets":["ops_token"]}}]`},
		{"token 1", "POST /ops/parked/9/1/reject", "", 200, `[{"what":"order 1","field":"status","from":"pending","to":"rejected"}]`},
		{"token 1", "DELETE /ops/deadletters/1-1", "", 200, `[{"what":"dead letter 1-1","from":{"bytes":1,"reason":""},"to":"dropped"}]`},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		parked.verdict = store.Resolution{Verdict: store.ResolvedStored,
			Order: &order.Order{ID: 1, Batch: 9, User: 7, Shop: 1, Kind: order.Normal, Currency: "CNY", Status: order.Rejected, Details: []byte(details)}}
		bearer := "Bearer " + token
		if c.who == "alice" {
			bearer = "Bearer alice-0123456789"
		}
		if status, body := l.call(method, path, c.body, bearer); status != c.status {
			t.Errorf("%s: %d %s", c.call, status, body)
		}
		l.last(c.who, c.status, c.changes)
	}
	before := len(l.records())
	l.ask("GET", "/ops/parked", "")
	l.call("POST", "/ops/offers/1/close", "", "Bearer wrong-0123456789")
	all := l.records()
	if len(all) != before+1 {
		t.Fatalf("%d lines, then %d", before, len(all))
	}
	if r := all[before]; r.Event != "refused" || r.Who != "" || r.Status != 401 || r.Path != "/ops/offers/1/close" || !strings.HasPrefix(r.Peer, "127.0.0.1:") {
		t.Errorf("%+v", r)
	}
	text, err := os.ReadFile(l.audit)
	if err != nil {
		t.Fatal(err)
	}
	l.noneOf(append(personal, token, "alice-0123456789", "wrong-0123456789", "Shanghai"), string(text))
	if !strings.Contains(l.log.String(), "who=alice") {
		t.Errorf("the log does not say who:\n%s", l.log.String())
	}
	if info, err := os.Stat(l.audit); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestAuditLogOnAFullDisk: what cannot be written down is not done, and said so; what only reads is answered.
func TestAuditLogOnAFullDisk(t *testing.T) {
	t.Parallel()
	count := &toll{}
	l := start(t, count.whole)
	if err := os.Remove(l.audit); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", l.audit); err != nil { // the kernel's: every write there says that there is no room
		t.Fatal(err)
	}
	for _, pattern := range contract.Patterns() {
		method, path, _ := strings.Cut(strings.NewReplacer("{$}", "", "{id}", "1-1", "{batch}", "9", "{order}", "1").Replace(pattern), " ")
		if method == http.MethodGet {
			continue
		}
		if status, body := l.ask(method, path, good); status != 503 || !strings.Contains(body, "audit_unavailable") {
			t.Errorf("%s: %d %s", pattern, status, body)
		}
	}
	if count.calls > 0 {
		t.Errorf("the program was called %d times", count.calls)
	}
	if status, body := l.ask("GET", "/ops/config", ""); status != 200 {
		t.Errorf("a read: %d %s", status, body)
	}
	if status, body := l.call("POST", "/ops/rebuild", "", "Bearer wrong"); status != 401 {
		t.Errorf("a wrong token: %d %s", status, body)
	}
	if log := l.log.String(); !strings.Contains(log, "no space left on device") || !strings.Contains(log, "cannot be written to the audit log") {
		t.Errorf("the log:\n%s", log)
	}
}

// TestAuditLogFailsBetween: what was done is answered as it was done, and is in the log of the program; then nothing more is done.
// A batch ends behind the chunk that could not be written down.
func TestAuditLogFailsBetween(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	spoil := func() {
		if err := os.Rename(l.audit, l.audit+".1"); err != nil {
			t.Error(err)
		}
		if err := os.Mkdir(l.audit, 0o700); err != nil { // what is a directory cannot be written
			t.Error(err)
		}
	}
	spoilt := start(t, func(p *ops.Program) { p.Offers = spoiling{p.Offers, &spoil} })
	l.audit = spoilt.audit
	if status, body := spoilt.ask("POST", "/ops/offers", good); status != 201 {
		t.Errorf("what was done is answered %d %s", status, body)
	}
	if status, body := spoilt.ask("POST", "/ops/offers", good); status != 503 || !strings.Contains(body, "audit_unavailable") {
		t.Errorf("the next one is answered %d %s", status, body)
	}
	if log := spoilt.log.String(); !strings.Contains(log, "was done and is not in the audit log") || !strings.Contains(log, "offer 1") {
		t.Errorf("the log:\n%s", log)
	}

	spoilt = start(t, func(p *ops.Program) { p.Offers = spoiling{p.Offers, &spoil} })
	l.audit = spoilt.audit
	answers := spoilt.stream(strings.NewReader(strings.Repeat(good+"\n", 2500)))
	n := 0
	for a := (answered{Status: 201}); a.Status == 201; n++ {
		if a = spoilt.next(answers); a.Status != 201 && (n != 1000 || a.Status != 503 || a.Problem.Code != "audit_unavailable") {
			t.Errorf("line %d: %+v, %+v", n, a, a.Problem)
		}
	}
	if answers.Scan() {
		t.Errorf("behind the end: %s", answers.Text())
	}
}

// spoiling is a store during whose work the audit log becomes one that cannot be written.
type spoiling struct {
	ops.Offers
	spoil *func()
}

func (s spoiling) CreateOffers(ctx context.Context, offers []order.Offer) ([]order.Offer, error) {
	created, err := s.Offers.CreateOffers(ctx, offers)
	(*s.spoil)()
	return created, err
}

// TestAuditLogIsMoved: a file that was moved away is made anew; a line that a crash has cut short spoils no other one.
func TestAuditLogIsMoved(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	l.ask("POST", "/ops/offers", good)
	if err := os.Rename(l.audit, l.audit+".1"); err != nil {
		t.Fatal(err)
	}
	l.ask("POST", "/ops/offers/1/close", "")
	l.last("token 1", 200, string(l.records()[1].Changes))
	torn := `{"time":"2026-11-28T01:`
	if err := os.WriteFile(l.audit, []byte(torn), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ask("POST", "/ops/offers", good)
	b, err := os.ReadFile(l.audit)
	if rest, ok := bytes.CutPrefix(b, []byte(torn+"\n")); err != nil || !ok || bytes.Count(rest, []byte("\n")) != 2 {
		t.Errorf("%v\n%s", err, b)
	}
	if _, err := ops.OpenAuditLog(filepath.Join(t.TempDir(), "none", "audit"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a directory that is not there was taken")
	}
}

// TestAuditLogOfManyAtOnce: lines are whole, and each call's answer comes behind its line.
func TestAuditLogOfManyAtOnce(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 10 {
				req, err := http.NewRequestWithContext(t.Context(), "POST", l.url+"/ops/offers", strings.NewReader(good))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+token)
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				b, err := os.ReadFile(l.audit)
				line := fmt.Sprintf(`"event":"answered","request_id":%q`, res.Header.Get("Sluice-Request-Id"))
				if err != nil || !strings.Contains(string(b), line) {
					t.Errorf("%d was answered before it was written down: %s, %v", res.StatusCode, line, err)
				}
			}
		})
	}
	callers.Wait()
	events := map[string][]string{}
	for _, r := range l.records() {
		events[r.ID] = append(events[r.ID], r.Event)
	}
	for id, list := range events {
		if strings.Join(list, " ") != "asked answered" {
			t.Errorf("%s: %v", id, list)
		}
	}
	if len(events) != 80 {
		t.Errorf("%d calls", len(events))
	}
}

// TestAuditLogOfStrangers: whoever has no token cannot fill the disk; how many were left out is said.
func TestAuditLogOfStrangers(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	const calls = 300
	for range calls {
		if status, _ := l.call("POST", "/ops/"+strings.Repeat("x", 4000), "", "Bearer wrong"); status != 401 {
			t.Fatal(status)
		}
	}
	list := l.records()
	var missed int64
	for _, r := range list {
		if missed += r.Missed; len(r.Path) > 200 {
			t.Errorf("a path of %d bytes", len(r.Path))
		}
	}
	if len(list) < 20 || len(list) > calls/2 || int64(len(list))+missed > calls {
		t.Errorf("%d lines, %d missed, of %d calls", len(list), missed, calls)
	}
}
