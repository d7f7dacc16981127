package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"sluice/engine/order"
)

// Every session has what statements and values rely on, whatever the data source name or the server's defaults say.
func TestSessions(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	o.Shards[0] += "?autocommit=0&sql_mode=%27%27&time_zone=%27%2B08%3A00%27&charset=latin1&innodb_lock_wait_timeout=3"
	s := openStore(t, o)
	for name, db := range map[string]*sql.DB{"write": s.shards[0].write, "read": s.shards[0].read} {
		var mode, zone, isolation, charset string
		var wait, auto, idle int
		noError(t, db.QueryRow("SELECT @@sql_mode, @@time_zone, @@character_set_client, @@innodb_lock_wait_timeout, @@autocommit, @@wait_timeout").
			Scan(&mode, &zone, &charset, &wait, &auto, &idle))
		noError(t, db.QueryRow("SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')").Scan(new(string), &isolation))
		if !strings.Contains(mode, "STRICT_ALL_TABLES") || zone != "+00:00" || isolation != "READ-COMMITTED" || charset != "utf8mb4" || wait != 3 || auto != 1 {
			t.Errorf("%s: mode %s, zone %s, isolation %s, character set %s, lock wait %d, autocommit %d", name, mode, zone, isolation, charset, wait, auto)
		}
		if time.Duration(idle)*time.Second != 2*idleMax {
			t.Errorf("%s: the server waits %d s for a session that says nothing", name, idle)
		}
	}
	if _, err := s.shards[0].write.Exec("UPDATE node SET owner = ? WHERE n = 1", strings.Repeat("x", 201)); err == nil {
		t.Error("a text that is too long was cut")
	}
}

// One process at a time changes the tables: the others wait for the server's lock, however the one before them ended. What it
// has left half done is gone on with.
func TestMigrationWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	other, release := migrating(t, o.Shards[0])
	_, err := other.ExecContext(context.Background(), "CREATE TABLE fact (name VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT NOT NULL) "+
		"ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin")
	noError(t, err)
	opened := make(chan error, 1)
	go func() {
		s, err := Open(context.Background(), o)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("opened beside a process that changes the tables: %v", err)
	case <-time.After(time.Second): // enough for one that does not wait, and right however slow the machine is
	}
	release()
	noError(t, <-opened)
	openStore(t, o)
}

// scattered is a map of virtual shards that no formula of ours makes.
func scattered(shards int) []int {
	m := make([]int, order.VirtualShards)
	for v := range m {
		m[v] = (v*7 + v/16 + 3) % shards
	}
	return m
}

// Users live where the configured map says, on two shards and on four; every row of theirs is there and nowhere else.
func TestVirtualShardsByConfiguration(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	for _, shards := range []int{2, 4} {
		o := testOptions(t, MySQL, shards)
		o.VirtualShards = scattered(shards)
		x, ids := newSaleOn(t, o, [2]int64{1000, 0})
		d := &desk{sale: x, offers: ids, start: order.MilliOf(time.Now())}
		var records []*order.Record
		want := make([]int, shards)
		for u := order.UserID(1); u <= 200; u++ {
			records = append(records, d.order(u, "k", 0, 1))
			want[o.VirtualShards[order.VirtualShard(u)]]++
		}
		d.place(records...)
		for shard, sh := range d.shards {
			var n int
			noError(t, sh.read.QueryRow("SELECT COUNT(*) FROM orders").Scan(&n))
			if n != want[shard] || n == 0 {
				t.Errorf("shard %d of %d has %d orders, want %d", shard, shards, n, want[shard])
			}
		}
		for _, r := range records {
			if got := d.read(r.ID); got.User != r.User {
				t.Fatalf("order %d of user %d reads as %+v", r.ID, r.User, got)
			}
		}
		o.VirtualShards = nil
		if _, err := Open(context.Background(), o); err == nil || !strings.Contains(err.Error(), "store.virtual_shards (slices of users:shard): this deployment") {
			t.Errorf("opened with another map: %v", err)
		}
	}
}

// Rows are inserted in primary-key order whatever order they come in: neighbours in a page, and locks taken by all flushes
// in one order.
func TestRowsInPrimaryKeyOrder(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	x, ids := newSaleOn(t, o, [2]int64{100_000, 5}, [2]int64{100_000, 5})
	d := &desk{sale: x, offers: ids, start: order.MilliOf(time.Now())}
	w := wireOf(t, o.Shards[0])
	var records []*order.Record
	var messages []*order.Message
	for i := range 1200 {
		r := d.order(order.UserID(1+(i*37)%1200), "", i%2, 1)
		records = append(records, r)
		messages = append(messages, batch(d.p, d.epoch, *r))
	}
	rand.Shuffle(len(records), func(i, j int) {
		records[i], records[j] = records[j], records[i]
		messages[i], messages[j] = messages[j], messages[i]
	})
	claims, _ := w.during("INSERT INTO ", func() { d.claim(messages...) })
	ascending(t, claims, "INSERT INTO claimed_batch", 1200, 2) // partition, batch
	ascending(t, claims, "INSERT INTO buyer", 1200, 2)         // offer, user
	rows := make([]Row, len(records))
	for i, r := range records {
		rows[i] = Row{Record: r, Batch: messages[i].Batch, Epoch: d.epoch, Partition: d.p, Status: order.AwaitingPayment}
	}
	recorded, _ := w.during("INSERT INTO ", func() { d.record(time.Hour, rows...) })
	ascending(t, recorded, "INSERT INTO orders", 1200, 1)
	parked := make([]ParkedOrder, len(records))
	for i, r := range records {
		parked[i] = ParkedOrder{Order: r.ID, Batch: messages[i].Batch, Partition: d.p, Epoch: d.epoch, Status: order.AwaitingPayment, Bytes: []byte{1}}
	}
	left, _ := w.during("INSERT INTO ", func() { noError(t, d.Park(context.Background(), 0, parked)) })
	ascending(t, left, "INSERT INTO parked", 1200, 2)
}

// ascending holds the rows of inserts to the order of their first columns, and their number to want; more than a row
// stands in each statement.
func ascending(t *testing.T, statements []string, prefix string, want, columns int) {
	t.Helper()
	row := regexp.MustCompile(`\((\d+),(\d+),`)
	var last []int
	n, inserts := 0, 0
	for _, s := range statements {
		if !strings.HasPrefix(s, prefix) {
			continue
		}
		inserts++
		for _, m := range row.FindAllStringSubmatch(s, -1) {
			var key []int
			for _, text := range m[1 : columns+1] {
				number, err := strconv.Atoi(text)
				noError(t, err)
				key = append(key, number)
			}
			if last != nil && slices.Compare(last, key) >= 0 {
				t.Fatalf("%s: row %v comes behind %v", prefix, key, last)
			}
			last = key
			n++
		}
	}
	if n != want || inserts == 0 || inserts > want/100 {
		t.Errorf("%s: %d rows in %d statements, want %d rows in a few", prefix, n, inserts, want)
	}
}

// The largest orders that there can be, in bytes that have to be escaped, are sent in statements that the smallest allowed
// packet holds.
func TestStatementsFitThePacket(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	o := testOptions(t, MySQL, 1)
	x, _ := newSaleOn(t, o, [2]int64{1, 0})
	d := &desk{sale: x, start: order.MilliOf(time.Now())}
	const n = 600
	rows, parked := make([]Row, n), make([]ParkedOrder, n)
	for i := range rows {
		r := record(order.MakeID(d.start+order.Milli(i), 0, order.VirtualShard(1), 0), 1)
		r.Details = []byte(strings.Repeat("'\\", order.DetailsMax/2))
		for line := range order.LinesMax {
			r.Items = append(r.Items, order.Item{Line: order.Line{Offer: order.OfferID(1<<40 + line), Quantity: order.QuantityMax},
				UnitPrice: order.UnitPriceMax, PriceVersion: 1 << 30, SKU: strings.Repeat("'", order.SKUMax)})
		}
		rows[i] = Row{Record: &r, Batch: order.BatchID(r.ID), Epoch: d.epoch, Partition: d.p, Status: order.AwaitingPayment}
		parked[i] = ParkedOrder{Order: r.ID, Batch: order.BatchID(r.ID), Partition: d.p, Epoch: d.epoch, Status: order.AwaitingPayment,
			Bytes: order.AppendRecord(nil, &r)}
	}
	_, longest := wireOf(t, o.Shards[0]).during("", func() {
		d.record(time.Hour, rows...)
		noError(t, d.Park(context.Background(), 0, parked))
	})
	if longest < statementBytes || longest > packetMin {
		t.Errorf("the longest statement has %d bytes; max_allowed_packet must be %d", longest, packetMin)
	}
	for _, table := range []string{"orders", "parked"} {
		var stored int
		noError(t, d.shards[0].read.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&stored))
		if stored != n {
			t.Errorf("%d rows in %s, want %d", stored, table, n)
		}
	}
}

// Flushes of two processes that meet all get through, whatever order their rows came in; each order is stored once.
func TestFlushesThatMeet(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	x, ids := newSale(t, MySQL, [2]int64{100_000, 50})
	other := openStore(t, x.opts) // another process
	d := &desk{sale: x, offers: ids, start: order.MilliOf(time.Now())}
	var records []*order.Record
	for i := range 300 {
		records = append(records, d.order(order.UserID(i%60+1), fmt.Sprint("k", i%200), 0, 1))
	}
	rows := d.claimed(records...)
	race(6, func(i int) {
		store := []*Store{x.Store, other}[i%2]
		for shard := range store.Shards() {
			var part []Row
			for _, at := range rand.Perm(len(rows)) {
				if store.UserShard(rows[at].Record.User) == shard {
					part = append(part, rows[at])
				}
			}
			if _, err := store.Record(context.Background(), shard, part, RecordOptions{Kind: order.Flash, Unpaid: time.Hour}); err != nil {
				t.Error(err)
			}
		}
	})
	stored := 0
	for _, r := range records {
		if o := d.read(r.ID); o.Status == order.AwaitingPayment {
			stored++
		}
	}
	d.giveBackAll()
	if left := d.part(); stored == 0 || left.Wanted != 0 {
		t.Errorf("%d stored", stored)
	}
	d.expect(ids[0], int64(100_000-stored), nil)
}

// through is a data source name with another server, user, password or database.
func through(t *testing.T, dsn string, change func(*mysql.Config)) string {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	noError(t, err)
	change(cfg)
	return cfg.FormatDSN()
}
