package audit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/order"
)

// world is a small deployment made by hand: two shards, two partitions, three offers, a handful of orders in every
// state, at rest and without a fault.
type world struct {
	t       *testing.T
	dialect string
	shards  []*sql.DB
	paths   []string
	queue   string
	fast    map[string]any
	history []Entry
	lost    []order.ID
	settle  time.Duration
	sells   bool // fast stock is another each time that somebody looks
	asked   int  // how often somebody looked
	// The index of orders is made by the test, not from the orders that are there when they are audited.
	ownIndex bool
	// Orders by the role they play.
	live, cancelled, due, duplicate, parked, limited order.ID
	alice                                            [2]order.UserID // one user of each shard
}

const (
	flashOffer, limitedOffer, normalOffer = 7, 8, 9
	sequenceStart                         = 1_790_000_000_000
)

func newWorld(t *testing.T) *world { return newWorldOn(t, "sqlite") }

func newWorldOn(t *testing.T, dialect string) *world {
	t.Helper()
	w := &world{t: t, dialect: dialect}
	dir := t.TempDir()
	files, err := filepath.Glob("../../persist/store/migrations/" + dialect + "/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no schema: %v", err)
	}
	var schema []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		schema = append(schema, text...)
	}
	for i := range 2 {
		path, dsn := filepath.Join(dir, fmt.Sprintf("shard-%d.db", i)), ""
		if dsn = path + "?_pragma=journal_mode(WAL)"; dialect == "mysql" {
			path = database(t)
			dsn = path
		}
		db, err := sql.Open(dialect, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		w.shards, w.paths = append(w.shards, db), append(w.paths, path)
		db.SetMaxOpenConns(1) // a migration keeps variables of its session
		for statement := range strings.SplitSeq(comment.ReplaceAllString(string(schema), ""), ";\n") {
			if strings.TrimSpace(statement) != "" {
				w.exec(i, statement)
			}
		}
		db.SetMaxOpenConns(0)
	}
	w.queue = filepath.Join(dir, "queue.db")
	q, err := sql.Open("sqlite", w.queue)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	if _, err := q.Exec("CREATE TABLE message (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, body BLOB NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	for u := order.UserID(1); w.alice[0] == 0 || w.alice[1] == 0; u++ {
		if at := &w.alice[order.VirtualShard(u)/128]; *at == 0 {
			*at = u
		}
	}
	w.fill()
	return w
}

// database makes a database on the MySQL server that SLUICE_TEST_MYSQL names; it goes when the test ends.
func database(t *testing.T) string {
	t.Helper()
	server := os.Getenv("SLUICE_TEST_MYSQL")
	name := "sluice_audit_" + strings.ToLower(rand.Text())
	db, err := sql.Open("mysql", server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec("DROP DATABASE " + name); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	return server + name
}

// comment is a line that is one.
var comment = regexp.MustCompile(`(?m)^--.*$`)

func (w *world) exec(shard int, query string, args ...any) {
	w.t.Helper()
	if _, err := w.shards[shard].Exec(query, args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// fill writes the faultless state.
func (w *world) fill() {
	for p := range 2 {
		w.exec(p, "INSERT INTO part VALUES (?, 5, 5, 5, 0, 0, 0, 0)", p)
	}
	w.offer(0, normalOffer, 0, "normal", 10, 0)
	w.offer(1, flashOffer, 1, "flash", 10, 0)
	w.offer(1, limitedOffer, 1, "flash", 10, 2)
	w.live = w.place(0, flashOffer, 2, "awaiting_payment", "")
	w.place(1, normalOffer, 3, "awaiting_payment", "")
	w.limited = w.place(1, limitedOffer, 2, "awaiting_payment", "")
	w.place(0, limitedOffer, 1, "paid", "")
	w.cancelled = w.place(0, flashOffer, 1, "cancelled", "")
	w.exec(0, "UPDATE order_event SET feed_n = n + 1 WHERE order_id = ?", w.cancelled)
	w.giveBack(1, 1, fmt.Sprintf("%d/1", w.cancelled))
	w.due = w.place(0, limitedOffer, 1, "expired", "")
	w.exec(0, "UPDATE order_event SET due = 1 WHERE order_id = ?", w.due)
	w.place(0, flashOffer, 1, "rejected", "cut")
	w.duplicate = w.place(0, flashOffer, 1, "rejected", "duplicate")
	w.exec(0, "UPDATE orders SET duplicate_of = ?, idem_key = '' WHERE order_id = ?", w.live, w.duplicate)
	w.giveBack(1, 1, fmt.Sprintf("%d/1", w.duplicate))
	w.parked = w.park(0, flashOffer, 1)
	w.exec(1, "UPDATE offer_stock SET sold = 3 WHERE offer_id = 7")
	w.exec(1, "UPDATE offer_stock SET sold = 4 WHERE offer_id = 8")
	w.exec(0, "UPDATE offer_stock SET sold = 3 WHERE offer_id = 9")
	w.exec(1, "INSERT INTO buyer VALUES (8, ?, 2, 2), (8, ?, 2, 2)", w.alice[0], w.alice[1])
	w.history = append(w.history,
		Entry{User: w.alice[0], Key: w.key(w.duplicate), Order: w.duplicate, Units: 1, Code: 202, Sent: 10, Answered: 20},
		Entry{User: w.alice[0], Key: "nobody", Code: 409, Sent: 30, Answered: 40},
		Entry{User: w.alice[0], Key: "nobody", Code: 503, Sent: 50, Answered: 60},
		Entry{User: w.alice[0], Key: w.key(w.live), Order: w.live, Units: 2, Code: 200, Sent: 70, Answered: 80},
	)
	w.fast = map[string]any{"partitions": []map[string]any{
		{"partition": 0, "kind": "normal", "state": "open", "applied": 1, "logged": 1, "left": map[string]int{"9": 7}, "buyers": [][]any{}},
		{"partition": 1, "kind": "flash", "state": "open", "applied": 4, "logged": 4, "left": map[string]int{"7": 7, "8": 6},
			"buyers": [][]any{{"8", fmt.Sprint(w.alice[0]), 2}, {"8", fmt.Sprint(w.alice[1]), 2}}},
	}}
}

func (w *world) offer(shard, id, p int, kind string, total, limit int) {
	w.exec(shard, "INSERT INTO offer VALUES (?, ?, 1, ?, 'sku', 'title', ?, 1, 'CNY', ?, 0, 0, 1)", id, p, w.group(id), kind, limit)
	w.exec(shard, "INSERT INTO offer_price VALUES (?, 1, 100, 0)", id)
	w.exec(shard, "INSERT INTO offer_stock VALUES (?, ?, ?, 0)", id, total, total)
	w.log(shard, p, nil)
}

func (w *world) group(offer int) string {
	if offer == normalOffer {
		return "s1"
	}
	return fmt.Sprintf("f%d", offer)
}

func (w *world) log(shard, p int, cause any) {
	w.exec(shard, "UPDATE part SET logged = logged + 1 WHERE p = ?", p)
	w.exec(shard, "INSERT INTO stock_log SELECT p, logged, ?, '[]' FROM part WHERE p = ?", cause, p)
}

// giveBack adds a row with a cause, which fast stock applies.
func (w *world) giveBack(shard, p int, cause string) {
	w.log(shard, p, cause)
	if w.fast != nil { // else it is described later
		w.apply(p, w.partition(p)["applied"].(int)+1)
	}
}

// apply says that fast stock has applied the stock log up to n.
func (w *world) apply(p, n int) { w.partition(p)["applied"], w.partition(p)["logged"] = n, n }

var sequence atomic.Int64

// place stores an order of shard's user and notes that it was answered 202 if it is live.
func (w *world) place(shard, offer, quantity int, status, reason string) order.ID {
	w.t.Helper()
	user := w.alice[shard]
	id := order.MakeID(order.Milli(sequenceStart+sequence.Add(1)), 0, order.VirtualShard(user), 0)
	kind, key := "flash", fmt.Sprintf("key-%d", id)
	if offer == normalOffer {
		kind = "normal"
	}
	items := fmt.Sprintf(`[{"offer_id":%d,"sku":"sku","quantity":%d,"unit_price":100,"price_version":1}]`, offer, quantity)
	var hash, unpaid any = int64(order.KeyHash(w.group(offer), key)), nil
	if status == "awaiting_payment" {
		unpaid = 1
	}
	if status == "rejected" {
		hash = nil
	}
	w.exec(shard, `INSERT INTO orders VALUES (?, ?, 5, ?, 1, ?, ?, ?, 0, ?, ?, ?, 0, ?, 0, 0, ?, 'CNY', ?, NULL, ?, 1, 1, 0)`,
		id, id, user, w.group(offer), key, hash, kind, status, reason, 100*quantity, 100*quantity, items, unpaid)
	w.exec(shard, "INSERT INTO order_event (order_id, n, at, type, actor, data, due) VALUES (?, 0, 1, 'recorded', '', ?, NULL)", id, `{"count":1,"ids":""}`)
	if status != "awaiting_payment" && status != "rejected" {
		w.exec(shard, "INSERT INTO order_event (order_id, n, at, type, actor, data, due) VALUES (?, 1, 1, ?, '', NULL, NULL)", id, status)
	}
	if status != "rejected" {
		w.history = append(w.history, Entry{User: user, Key: key, Order: id, Units: int64(quantity), Code: 202, Sent: 10, Answered: 20})
	}
	return id
}

func (w *world) key(id order.ID) string { return fmt.Sprintf("key-%d", id) }

func (w *world) park(shard, offer, quantity int) order.ID {
	user := w.alice[shard]
	id := order.MakeID(order.Milli(sequenceStart+sequence.Add(1)), 0, order.VirtualShard(user), 0)
	r := order.Record{ID: id, User: user, Shop: 1, Currency: "CNY", Key: w.key(id), Group: w.group(offer), Items: []order.Item{
		{Line: order.Line{Offer: order.OfferID(offer), Quantity: uint32(quantity)}, UnitPrice: 100, PriceVersion: 1, SKU: "sku"}}}
	w.exec(1, "INSERT INTO parked VALUES (?, ?, ?, 1, 5, 'awaiting_payment', '', '', ?)", id, id, shard, order.AppendRecord(nil, &r))
	w.history = append(w.history, Entry{User: user, Key: r.Key, Order: id, Units: int64(quantity), Code: 202, Sent: 10, Answered: 20})
	return id
}

// audit runs the judge, with a server that says what fast holds.
func (w *world) audit() *Report {
	w.t.Helper()
	if w.dialect == "sqlite" && !w.ownIndex {
		w.index()
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ops/stock" || r.Header.Get("Authorization") != "Bearer secret" {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		if w.asked++; w.sells {
			w.partition(1)["left"] = map[string]int{"7": 7 - w.asked%2, "8": 6}
		}
		_ = json.NewEncoder(rw).Encode(w.fast)
	}))
	defer server.Close()
	report, err := Run(context.Background(), Options{
		Dialect: w.dialect, Shards: w.paths, QueueFile: w.queue, OpsURL: server.URL, OpsToken: "secret", History: w.history,
		Lost: w.lost, Settle: w.settle,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// index makes the index of orders by user and key: the orders of shard 0 are merged, those of shard 1 are in a run.
func (w *world) index() {
	w.t.Helper()
	w.ownIndex = true
	const entries = "SELECT user_id, coalesce(key_hash, 0), order_id FROM orders"
	w.exec(0, "INSERT INTO order_key "+entries)
	rows, err := w.shards[1].Query(entries)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var run []byte
	for rows.Next() {
		var e [3]int64
		if err := rows.Scan(&e[0], &e[1], &e[2]); err != nil {
			w.t.Fatal(err)
		}
		run = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(run,
			uint64(e[0])), uint64(e[1])), uint64(e[2]))
	}
	if err := rows.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.exec(1, "INSERT INTO order_key_run (entries) VALUES (?)", run)
}

// failed lists the rules that were violated.
func failed(r *Report) []string {
	var names []string
	for _, rule := range r.Rules {
		if rule.Verdict == Fail {
			names = append(names, rule.Name)
		}
	}
	slices.Sort(names)
	return names
}

// partition is what fast stock says of partition p.
func (w *world) partition(p int) map[string]any { return w.fast["partitions"].([]map[string]any)[p] }

// change changes the history's entry of an order.
func (w *world) change(id order.ID, f func(*Entry)) {
	for i := range w.history {
		if w.history[i].Order == id {
			f(&w.history[i])
			return
		}
	}
	w.t.Fatalf("order %d is not in the history", id)
}
