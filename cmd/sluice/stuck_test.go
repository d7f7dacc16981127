package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sluice/engine/order"
	"sluice/gateway/ops"
)

// file runs statements on a file of the server's data.
func (s *shop) file(name string, statements ...string) {
	s.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.dir, name)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// TestStuckOrders has orders that the database refuses: one is replayed after the database was repaired, one rejected.
// Nothing personal is printed, and the audit agrees at every step.
func TestStuckOrders(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	must := func(args ...string) string {
		t.Helper()
		out, errs, err := cli(t, s, args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, errs)
		}
		return out
	}
	offer := s.offer("flash", 100, 5)
	for _, shard := range []string{"shard-0.db", "shard-1.db"} {
		s.file(shard, "CREATE TRIGGER forbid BEFORE INSERT ON orders WHEN NEW.shop_id <> 0 BEGIN SELECT RAISE(ABORT, 'forbidden'); END")
	}
	const body = `{"items":[{"offer_id":"%s","quantity":2}],"details":{"note":"ring twice"}}`
	var ids []string
	for user := order.UserID(1); user <= 2; user++ {
		ids = append(ids, s.must(202, "POST", s.gateway+"/v1/orders", s.token(user), fmt.Sprintf(body, offer), "Idempotency-Key", "k").field("id"))
	}
	parked := map[string]ops.ParkedOrder{}
	if !await(func() bool {
		for line := range strings.Lines(must("parked", "list", "--poison", "--json")) {
			var o ops.ParkedOrder
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatal(err)
			}
			parked[o.Order] = o
		}
		return len(parked) == 2
	}) {
		t.Fatalf("parked: %v", parked)
	}
	s.audited(true)
	first, second := parked[ids[0]], parked[ids[1]]
	if out := must("parked", "list"); !strings.Contains(out, "forbidden") || strings.Count(out, "\n") != 3 {
		t.Errorf("list: %s", out)
	}
	if out := must("parked", "list", "--shard", "7"); strings.Count(out, "\n") != 1 {
		t.Errorf("list of no shard: %s", out)
	}
	if out := must("parked", "show", first.Batch, first.Order); strings.Contains(out, "ring twice") || !strings.Contains(out, `"note": "***"`) {
		t.Errorf("show: %s", out)
	}
	if _, _, err := cli(t, s, "parked", "replay", first.Batch, first.Order); err == nil || !strings.Contains(err.Error(), "still_refused") || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("replay: %v", err)
	}
	s.remaining(offer, "96")
	for range 2 { // a bare row is stored; the same command again changes nothing
		if out := must("parked", "reject", first.Batch, first.Order); !strings.Contains(out, `"reason": "refused"`) {
			t.Errorf("reject: %s", out)
		}
		s.remaining(offer, "98")
	}
	s.must(200, "GET", s.gateway+"/v1/orders/"+first.Order, s.token(order.UserID(1)), "")
	for _, shard := range []string{"shard-0.db", "shard-1.db"} {
		s.file(shard, "DROP TRIGGER forbid")
	}
	if out := must("parked", "replay", second.Batch, second.Order); !strings.Contains(out, `"status": "awaiting_payment"`) || strings.Contains(out, "ring twice") {
		t.Errorf("replay: %s", out)
	}
	if _, _, err := cli(t, s, "parked", "reject", second.Batch, second.Order); err == nil || !strings.Contains(err.Error(), "stored_alive") {
		t.Errorf("reject of an order that lives: %v", err)
	}
	s.metrics(map[string]string{`sluice_orders_rejected_total{by="operator"}`: "1"})
	s.remaining(offer, "98")
	s.audited(true)
}

func TestDeadLetterCommands(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	s.file("queue.db", "INSERT INTO dead(p, position, at, reason, body) VALUES (1, 5, 1000, 'checksum', x'0102')",
		"INSERT INTO dead(p, position, at, reason, body) VALUES (1, 6, 1000, 'checksum', x'03')")
	for _, c := range []struct{ args, out, err string }{
		{"deadletter list", "1-5  1          1970-01-01T00:00:01Z  2      checksum\n1-6", ""},
		{"deadletter list --json", `"size":2`, ""},
		{"deadletter show 1-5", `"hex": "0102"`, ""},
		{"deadletter replay 1-5", "", "still_damaged"},
		{"deadletter drop 1-5", "", "say --yes"},
		{"deadletter drop 1-5 --yes", `"dropped"`, ""},
		{"deadletter drop 1-5 --yes", "", "not_found"},
		{"deadletter show 1-6", `"03"`, ""},
	} {
		out, _, err := cli(t, s, strings.Fields(c.args)...)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !strings.Contains(out, c.out) {
			t.Errorf("sluice %s: %v\n%s", c.args, err, out)
		}
	}
}
