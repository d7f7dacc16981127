package audit

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/order"
)

func TestFaultlessWorldPasses(t *testing.T) {
	report := newWorld(t).audit()
	for _, rule := range report.Rules {
		if rule.Verdict != Pass || rule.Checked == 0 {
			t.Errorf("%s: %s, %d checked, %v %s", rule.Name, rule.Verdict, rule.Checked, rule.Examples, rule.Note)
		}
	}
	if !report.Passed() || report.Orders != 9 {
		t.Errorf("%s", report.Summary())
	}
}

// TestPlantedViolations plants one fault at a time: exactly the rules named must see it.
func TestPlantedViolations(t *testing.T) {
	tests := []struct {
		name  string
		plant func(*world)
		rules []string
	}{
		{"sold too low", func(w *world) { w.exec(1, "UPDATE offer_stock SET sold = 2 WHERE offer_id = 7") }, []string{RuleSold}},
		{"more live units than the total", func(w *world) {
			w.exec(1, "UPDATE offer_stock SET sold = 2, total = 2, total_wanted = 2 WHERE offer_id = 7")
		}, []string{RuleOversell, RuleSold, RuleFast}},
		{"order of an offer that does not exist", func(w *world) {
			w.exec(0, "UPDATE orders SET items = replace(items, '\"offer_id\":7', '\"offer_id\":77') WHERE order_id = ?", w.live)
		}, []string{RuleOversell, RuleSold, RuleFast, RuleMoney}},
		{"order vanished", func(w *world) {
			w.exec(0, "DELETE FROM orders WHERE order_id = ?", w.live)
		}, []string{RuleSold, RuleFast, RuleState, RuleUnique, RuleAnswered}},
		{"parked order vanished", func(w *world) { w.exec(1, "DELETE FROM parked") }, []string{RuleSold, RuleFast, RuleAnswered}},
		{"parked order does not read", func(w *world) { w.exec(1, "UPDATE parked SET bytes = x'00'") },
			[]string{RuleSold, RuleFast, RuleAnswered, RuleMoney}},
		{"buyer row too low", func(w *world) { w.exec(1, "UPDATE buyer SET units = 1 WHERE user_id = ?", w.alice[1]) }, []string{RuleBuyers}},
		{"buyer row missing", func(w *world) { w.exec(1, "DELETE FROM buyer WHERE user_id = ?", w.alice[1]) }, []string{RuleBuyers}},
		{"limit broken", func(w *world) {
			w.place(1, limitedOffer, 1, "awaiting_payment", "")
			w.exec(1, "UPDATE offer_stock SET sold = 5 WHERE offer_id = 8")
			w.exec(1, "UPDATE buyer SET lim = 3, units = 3 WHERE user_id = ?", w.alice[1])
			w.partition(1)["left"] = map[string]int{"7": 7, "8": 5}
			w.partition(1)["buyers"].([][]any)[1][2] = 3
		}, []string{RuleLimits}},
		{"two live orders of one key", func(w *world) {
			w.exec(0, "UPDATE orders SET group_id = 'f7', idem_key = ?, key_hash = key_hash + 1 WHERE order_id = ?", w.key(w.live),
				w.second(flashOffer))
		}, []string{RuleOneKey}},
		{"live order without a hash of its key", func(w *world) {
			w.exec(0, "UPDATE orders SET key_hash = NULL WHERE order_id = ?", w.live)
		}, []string{RuleOneKey}},
		{"hash of another key", func(w *world) {
			w.exec(0, "UPDATE orders SET key_hash = key_hash + 1 WHERE order_id = ?", w.live)
		}, []string{RuleOneKey}},
		{"a dead order holds the key of a live one", func(w *world) {
			w.exec(0, "UPDATE orders SET group_id = 'f7', idem_key = ?, key_hash = key_hash + 1, status = 'cancelled' WHERE order_id = ?",
				w.key(w.live), w.second(flashOffer))
		}, []string{RuleOneKey, RuleState, RuleLeak}},
		{"merged entry lost", func(w *world) {
			w.index()
			w.exec(0, "DELETE FROM order_key WHERE order_id = ?", w.live)
		}, []string{RuleIndex}},
		{"run lost", func(w *world) {
			w.index()
			w.exec(1, "DELETE FROM order_key_run")
		}, []string{RuleIndex}},
		{"entry of another key", func(w *world) {
			w.index()
			w.exec(0, "UPDATE order_key SET key_hash = key_hash + 1 WHERE order_id = ?", w.live)
		}, []string{RuleIndex}},
		{"one id on two shards", func(w *world) { w.copyOrder(w.live) },
			[]string{RuleUnique, RuleShard, RuleSold, RuleFast, RuleState, RuleAnswered}},
		{"duplicate of nothing", func(w *world) {
			w.exec(0, "UPDATE orders SET duplicate_of = 5 WHERE order_id = ?", w.duplicate)
		}, []string{RuleUnique, RuleAnswered}},
		{"foreign shard bits", func(w *world) {
			w.exec(0, "UPDATE orders SET user_id = user_id + ? WHERE order_id = ?", w.otherBits(), w.live)
		}, []string{RuleShard, RuleAnswered, RuleUnique}},
		{"offer away from home", func(w *world) { w.exec(0, "UPDATE offer SET p = 1 WHERE offer_id = 9") }, []string{RuleShard}},
		{"unknown status", func(w *world) {
			w.exec(0, "UPDATE orders SET status = 'lost', unpaid_until = NULL WHERE order_id = ?", w.live)
		}, []string{RuleState}},
		{"status without its event", func(w *world) {
			w.exec(0, "DELETE FROM order_event WHERE order_id = ? AND type = 'cancelled'", w.cancelled)
		}, []string{RuleState}},
		{"status that does not follow", func(w *world) {
			w.exec(0, "UPDATE orders SET status = 'shipped' WHERE status = 'paid'")
			w.exec(0, "UPDATE order_event SET type = 'shipped' WHERE type = 'paid'")
		}, []string{RuleState}},
		{"paid order that still expires", func(w *world) {
			w.exec(0, "UPDATE orders SET unpaid_until = 5 WHERE status = 'paid'")
		}, []string{RuleState}},
		{"reason without rejection", func(w *world) {
			w.exec(0, "UPDATE orders SET reason = 'cut' WHERE order_id = ?", w.live)
		}, []string{RuleState}},
		{"flush that recorded another number", func(w *world) {
			w.exec(0, `UPDATE order_event SET data = '{"count":2}' WHERE type = 'recorded' AND order_id = ?`, w.live)
		}, []string{RuleState}},
		{"events of an order that is not stored", func(w *world) {
			w.exec(0, "INSERT INTO order_event (order_id, n, at, type, actor, data, due) VALUES (4, 1, 1, 'paid', '', NULL, NULL)")
		}, []string{RuleState}},
		{"events numbered with a gap", func(w *world) {
			w.exec(0, "UPDATE order_event SET n = 2 WHERE type = 'cancelled'")
		}, []string{RuleState, RuleFeed}},
		{"feed with a gap", func(w *world) { w.exec(0, "UPDATE order_event SET feed_n = 3 WHERE feed_n = 2") }, []string{RuleFeed}},
		{"number of the feed given twice", func(w *world) { w.exec(0, "UPDATE order_event SET feed_n = 1 WHERE feed_n = 2") }, []string{RuleFeed}},
		{"feed tells of a change first", func(w *world) { w.exec(0, "UPDATE order_event SET feed_n = 3 - feed_n WHERE feed_n > 0") }, []string{RuleFeed}},
		{"feed tells of an order that is not stored", func(w *world) {
			w.exec(0, `UPDATE order_event SET data = '{"count":2,"ids":"AQ=="}', feed_n = feed_n + 1 WHERE feed_n = 1`)
			w.exec(0, "UPDATE order_event SET feed_n = 3 WHERE type = 'cancelled'")
		}, []string{RuleFeed, RuleState}},
		{"second claim forgotten", func(w *world) {
			w.exec(1, "UPDATE offer_stock SET sold = sold + 1 WHERE offer_id = 7")
		}, []string{RuleSold}},
		{"amount", func(w *world) { w.exec(0, "UPDATE orders SET amount = amount - 1 WHERE order_id = ?", w.live) }, []string{RuleMoney}},
		{"goods", func(w *world) {
			w.exec(0, "UPDATE orders SET goods = goods - 1, amount = amount - 1 WHERE order_id = ?", w.live)
		}, []string{RuleMoney}},
		{"price", func(w *world) { w.exec(0, "UPDATE offer_price SET unit_price = 101") }, []string{RuleMoney}},
		{"price version that never was", func(w *world) {
			w.exec(0, "UPDATE orders SET items = replace(items, '\"price_version\":1', '\"price_version\":2') WHERE order_id = ?", w.live)
		}, []string{RuleMoney}},
		{"items that do not read", func(w *world) {
			w.exec(0, "UPDATE orders SET items = 'x' WHERE status = 'rejected' AND reason = 'cut'")
		},
			[]string{RuleMoney}},
		{"gap in the stock log", func(w *world) { w.exec(1, "DELETE FROM stock_log WHERE n = 2") }, []string{RuleLog}},
		{"stock log behind its partition", func(w *world) {
			w.exec(0, "UPDATE part SET logged = 2")
			w.apply(0, 2)
		}, []string{RuleLog}},
		{"stock log applied in part", func(w *world) { w.log(1, 1, nil) }, []string{RuleAtRest}},
		{"cause twice", func(w *world) {
			w.exec(1, "DROP INDEX stock_log_by_cause")
			w.giveBack(1, 1, w.cause(w.cancelled))
		}, []string{RuleLog}},
		{"units never given back", func(w *world) {
			w.exec(0, "UPDATE order_event SET due = NULL WHERE order_id = ?", w.due)
		}, []string{RuleLeak}},
		{"units of a live order given back", func(w *world) { w.giveBack(1, 1, w.cause(w.live)) }, []string{RuleLeak}},
		{"fast stock has too many", func(w *world) { w.partition(1)["left"] = map[string]int{"7": 8, "8": 6} }, []string{RuleFast}},
		{"fast stock lacks an offer", func(w *world) { w.partition(1)["left"] = map[string]int{"8": 6} }, []string{RuleFast}},
		{"fast stock's buyer", func(w *world) { w.partition(1)["buyers"].([][]any)[0][2] = 1 }, []string{RuleFastBuyers}},
		{"fast stock's buyer too many", func(w *world) { w.partition(1)["buyers"].([][]any)[0][1] = "99" }, []string{RuleFastBuyers}},
		{"backlog", func(w *world) { w.partition(0)["backlog"] = 1 }, []string{RuleAtRest}},
		{"shut partition", func(w *world) { w.partition(0)["state"] = "recovering" }, []string{RuleAtRest}},
		{"stock log not applied", func(w *world) { w.partition(1)["applied"] = 3 }, []string{RuleAtRest}},
		{"202 never stored", func(w *world) {
			w.history = append(w.history, Entry{User: w.alice[0], Order: 12345, Code: 202})
		}, []string{RuleAnswered}},
		{"202 without an order", func(w *world) { w.history = append(w.history, Entry{User: w.alice[0], Code: 202}) }, []string{RuleAnswered}},
		{"202 with another user's order", func(w *world) {
			w.change(w.live, func(e *Entry) { e.User = w.alice[1] })
		}, []string{RuleAnswered}},
		{"202 with another key's order", func(w *world) { w.change(w.live, func(e *Entry) { e.Key = "other" }) }, []string{RuleAnswered}},
		{"202 then rejected", func(w *world) {
			w.exec(0, "UPDATE orders SET reason = 'cut', duplicate_of = 0 WHERE order_id = ?", w.duplicate)
		}, []string{RuleAnswered}},
		{"503 stored", func(w *world) { w.change(w.limited, func(e *Entry) { e.Order, e.Code = 0, 503 }) }, []string{RuleNoEffect}},
		{"409 beside a live order", func(w *world) {
			w.history = append(w.history, Entry{User: w.alice[1], Key: w.key(w.limited), Code: 409, Sent: 30, Answered: 40})
		}, []string{RuleNoOrderLeft}},
		{"409 after an unknown outcome that had taken effect", func(w *world) {
			w.change(w.limited, func(e *Entry) { e.Order, e.Code = 0, 504 })
			w.history = append(w.history, Entry{User: w.alice[1], Key: w.key(w.limited), Code: 409, Sent: 30, Answered: 40})
		}, []string{RuleNoOrderLeft}},
	}
	caught := map[string]bool{}
	for _, test := range tests {
		for _, rule := range test.rules {
			caught[rule] = true
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.plant(w)
			want := slices.Sorted(slices.Values(test.rules))
			report := w.audit()
			if diff := cmp.Diff(want, failed(report)); diff != "" {
				var text bytes.Buffer
				_ = report.Text(&text)
				t.Errorf("rules violated (-want +got):\n%s\n%s", diff, text.String())
			}
		})
	}
	for _, rule := range rules {
		if !caught[rule.name] {
			t.Errorf("no planted violation of %q", rule.name)
		}
	}
}

// TestSecondClaim follows a claim made in error: due, then given back.
func TestSecondClaim(t *testing.T) {
	w := newWorld(t)
	data := fmt.Sprintf(`{"batch_id":77,"user_id":%d,"lines":[{"Offer":7,"Quantity":1}]}`, w.alice[0])
	w.exec(0, "INSERT INTO order_event (order_id, n, at, type, actor, data, due) VALUES (?, 1, 1, 'second_claim', '', ?, 1)", w.live, data)
	w.exec(1, "UPDATE offer_stock SET sold = sold + 1 WHERE offer_id = 7")
	w.partition(1)["left"] = map[string]int{"7": 6, "8": 6}
	if report := w.audit(); !report.Passed() {
		t.Errorf("due: %v", failed(report))
	}
	w.giveBack(1, 1, fmt.Sprintf("%d:77", w.live))
	w.exec(1, "UPDATE offer_stock SET sold = sold - 1 WHERE offer_id = 7")
	w.partition(1)["left"] = map[string]int{"7": 7, "8": 6}
	if report := w.audit(); !report.Passed() {
		t.Errorf("given back: %v", failed(report))
	}
}

// TestLost: exactly the orders that are given as lost are missing.
func TestLost(t *testing.T) {
	w := newWorld(t)
	const missing, another = 4, 5
	w.history = append(w.history, Entry{User: w.alice[0], Key: "lost", Order: missing, Units: 1, Code: 202, Sent: 10, Answered: 20})
	for _, c := range []struct {
		lost  []order.ID
		rules []string
	}{
		{nil, []string{RuleAnswered}},
		{[]order.ID{missing}, nil},
		{[]order.ID{another}, []string{RuleAnswered}},
		{[]order.ID{missing, w.live}, []string{RuleAnswered}},
	} {
		w.lost = c.lost
		if diff := cmp.Diff(c.rules, failed(w.audit())); diff != "" {
			t.Errorf("lost %v: %s", c.lost, diff)
		}
	}
}

// TestMySQL audits the same world on a MySQL server, without a fault and with a few.
func TestMySQL(t *testing.T) {
	if os.Getenv("SLUICE_TEST_MYSQL") == "" {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal("SLUICE_TEST_MYSQL is not set, and in CI nothing is skipped")
		}
		t.Skip("SLUICE_TEST_MYSQL is not set")
	}
	w := newWorldOn(t, "mysql")
	report := w.audit()
	for _, rule := range report.Rules {
		if rule.Verdict != Pass || rule.Checked == 0 {
			t.Errorf("%s: %s, %d checked, %v %s", rule.Name, rule.Verdict, rule.Checked, rule.Examples, rule.Note)
		}
	}
	w.exec(0, "UPDATE orders SET amount = amount - 1 WHERE order_id = ?", w.live)
	w.exec(1, "UPDATE offer_stock SET sold = 2 WHERE offer_id = 7")
	w.exec(1, "UPDATE buyer SET units = 1 WHERE user_id = ?", w.alice[1])
	w.exec(0, "ALTER TABLE orders DROP INDEX orders_by_user_key, ADD INDEX orders_by_user_key (user_id, key_hash)")
	if diff := cmp.Diff([]string{RuleBuyers, RuleIndex, RuleMoney, RuleSold}, failed(w.audit())); diff != "" {
		t.Error(diff)
	}
	db, conn, err := openReadOnly(context.Background(), "mysql", w.paths[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	defer conn.Close()
	if _, err := conn.ExecContext(context.Background(), "DELETE FROM orders"); err == nil {
		t.Error("a write went through")
	}
}

func TestQueueFileCountsWithoutServer(t *testing.T) {
	w := newWorld(t)
	report, err := Run(context.Background(), Options{Shards: w.paths, QueueFile: w.queue})
	if err != nil || report.Rule(RuleAtRest).Verdict != Pass || report.Rule(RuleFast).Verdict != NotChecked ||
		report.Rule(RuleAnswered).Verdict != NotChecked {
		t.Fatalf("%v %v", report, err)
	}
	db, err := sql.Open("sqlite", w.queue)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO message VALUES (1, 1, 'x')"); err != nil {
		t.Fatal(err)
	}
	report, err = Run(context.Background(), Options{Shards: w.paths, QueueFile: w.queue})
	if err != nil || report.Rule(RuleAtRest).Verdict != Fail {
		t.Fatalf("%v %v", report, err)
	}
	report, err = Run(context.Background(), Options{Shards: w.paths})
	if err != nil || report.Rule(RuleAtRest).Verdict != NotChecked {
		t.Fatalf("%v %v", report, err)
	}
}

func TestUnreadableStoresGiveNoVerdict(t *testing.T) {
	w := newWorld(t)
	for name, o := range map[string]Options{
		"no shard":       {},
		"missing file":   {Shards: []string{w.paths[0], "nowhere.db"}},
		"other dialect":  {Dialect: "oracle", Shards: w.paths},
		"short map":      {Shards: w.paths, VirtualShards: []int{0}},
		"missing queue":  {Shards: w.paths, QueueFile: "nowhere.db"},
		"no such server": {Shards: w.paths, OpsURL: "http://127.0.0.1:1"},
	} {
		if report, err := Run(context.Background(), o); err == nil {
			t.Errorf("%s: %v", name, report.Summary())
		}
	}
}

func TestConnectionsOnlyRead(t *testing.T) {
	w := newWorld(t)
	db, conn, err := openReadOnly(context.Background(), "sqlite", w.paths[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	defer conn.Close()
	if _, err := conn.ExecContext(context.Background(), "DELETE FROM orders"); err == nil {
		t.Error("a write went through")
	}
}

func TestReportReads(t *testing.T) {
	w := newWorld(t)
	w.exec(0, "UPDATE orders SET amount = 1")
	report := w.audit()
	var text, encoded bytes.Buffer
	if err := report.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fail         " + RuleMoney, "and 1 more", "audit FAILED: 9 orders, 18 rules passed, 1 failed"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, text.String())
		}
	}
	var back Report
	if err := report.JSON(&encoded); err != nil || json.Unmarshal(encoded.Bytes(), &back) != nil || !cmp.Equal(report, &back) {
		t.Errorf("%v %v", back, err)
	}
}

// second places another order of the same user and gives its units to the books.
func (w *world) second(offer int) order.ID {
	id := w.place(0, offer, 1, "awaiting_payment", "")
	w.history = w.history[:len(w.history)-1]
	w.exec(1, "UPDATE offer_stock SET sold = sold + 1 WHERE offer_id = ?", offer)
	w.partition(1)["left"].(map[string]int)["7"]--
	return id
}

func (w *world) copyOrder(id order.ID) {
	w.exec(1, "ATTACH ? AS other", w.paths[0])
	w.exec(1, "INSERT INTO orders SELECT * FROM other.orders WHERE order_id = ?", id)
	w.exec(1, "DETACH other")
}

func (w *world) cause(id order.ID) string { return id.String() + "/1" }

// otherBits is what leads from the first user to another of the same shard with other shard bits.
func (w *world) otherBits() uint64 {
	for d := uint64(1); ; d++ {
		bits := order.VirtualShard(w.alice[0] + order.UserID(d))
		if bits != order.VirtualShard(w.alice[0]) && bits < 128 {
			return d
		}
	}
}
