package store

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
)

func TestFactsNeverChange(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		o := testOptions(t, d, 2)
		noError(t, openStore(t, o).Close())
		foreign, empty := testOptions(t, d, 2), testOptions(t, d, 1)
		noError(t, openStore(t, foreign).Close())
		for _, c := range []struct {
			change func(*Options)
			want   []string // a line each
		}{
			{func(o *Options) { o.Partitions.Normal = 8 }, []string{
				`shard 0 (PLACE0): engine.partitions: this deployment was created with "4 normal, 4 flash", the configuration now says ` +
					`"8 normal, 4 flash"; it cannot change once there are data: put it back, or begin a new deployment with empty databases`,
				`shard 0 (PLACE0): partition_shards (partitions:shard, from engine.partitions and store.shards): this deployment was ` +
					`created with "0-0:0 1-1:1 2-2:0 3-3:1 4-4:0 5-5:1 6-6:0 7-7:1", the configuration now says "0-0:0 1-1:1`}},
			{func(o *Options) { o.Deadline *= 2 }, []string{
				`shard 0 (PLACE0): engine.deadline: this deployment was created with "1s", the configuration now says "2s"; it cannot`}},
			{func(o *Options) { o.VirtualShards = make([]int, order.VirtualShards) }, []string{
				`shard 0 (PLACE0): store.virtual_shards (slices of users:shard): this deployment was created with "0-127:0 128-255:1", ` +
					`the configuration now says "0-255:0"; it cannot`}},
			{func(o *Options) { o.Shards = []string{o.Shards[1], o.Shards[0]} }, []string{
				`shard 0 (PLACE1): it is shard 1 of its deployment, and store.shards names it as number 0 (from 0): check the list of shards and its order`,
				`shard 1 (PLACE0): it is shard 0 of its deployment, and store.shards names it as number 1 (from 0): check`}},
			{func(o *Options) { o.Shards = append(o.Shards, empty.Shards...) }, []string{
				`shard 0 (PLACE0): store.shards (their number): this deployment was created with "2", the configuration now says "3"; it cannot`}},
			{func(o *Options) { o.Shards = o.Shards[:1] }, []string{
				`shard 0 (PLACE0): store.shards (their number): this deployment was created with "2", the configuration now says "1"; it cannot`}},
			{func(o *Options) { o.Shards[1] = foreign.Shards[1] }, []string{
				`shard 1 (FOREIGN1): it belongs to another deployment than shard 0: check the list of shards`}},
			{func(o *Options) { o.Shards[1] = empty.Shards[0] }, []string{
				`shard 1 (EMPTY): it is empty, but this deployment has had its first start: is it the right database? A shard that ` +
					`has lost its data is restored from a backup before the start`}},
			{func(o *Options) { o.Shards[0] = empty.Shards[0] }, []string{
				`shard 0 (EMPTY): it is empty, while other shards of store.shards hold data: is it the right database, and are the shards in their order?`}},
		} {
			changed := o
			changed.Shards = slices.Clone(o.Shards)
			c.change(&changed)
			place := dialects[d].place
			names := strings.NewReplacer("PLACE0", place(o.Shards[0]), "PLACE1", place(o.Shards[1]), "FOREIGN1", place(foreign.Shards[1]),
				"EMPTY", place(empty.Shards[0]))
			s, err := Open(context.Background(), changed)
			if err == nil {
				t.Errorf("opened; want %q", c.want)
				noError(t, s.Close())
				continue
			}
			lines := strings.Split(err.Error(), "\n")
			for i, want := range c.want {
				if i >= len(lines) || !strings.HasPrefix(lines[i], names.Replace(want)) {
					t.Errorf("got %q\nwant a line %q", lines, names.Replace(want))
				}
			}
			if len(lines) != len(c.want) {
				t.Errorf("%d lines, want %d: %q", len(lines), len(c.want), lines)
			}
		}
		if tables := tablesOf(t, d, empty.Shards[0]); tables != 0 {
			t.Errorf("%d tables were made in a database that was named by mistake", tables)
		}
		s := openStore(t, o)
		noError(t, s.Fact(context.Background(), "queues", "0-7:0"))
		noError(t, s.Fact(context.Background(), "queues", "0-7:0"))
		if err := s.Fact(context.Background(), "queues", "0-7:1"); err == nil || !strings.HasPrefix(err.Error(), `queues: this deployment was created with "0-7:0"`) {
			t.Errorf("another fact changed: %v", err)
		}
	})
}

// tablesOf counts the tables of a shard, without making anything.
func tablesOf(t *testing.T, d Dialect, shard string) (n int) {
	t.Helper()
	query := "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"
	db, err := sql.Open("mysql", shard)
	if d == SQLite {
		query = "SELECT COUNT(*) FROM sqlite_master"
		db, err = openReadOnly(shard)
	}
	noError(t, err)
	if db == nil {
		return 0
	}
	defer db.Close()
	noError(t, db.QueryRow(query).Scan(&n))
	return n
}

// Many processes start at once on empty databases: one at a time changes the tables, and all of them agree on what the
// deployment is.
func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	needMySQL(t)
	for _, shards := range []int{2, 4} {
		o := testOptions(t, MySQL, shards)
		race(8, func(int) {
			s, err := Open(context.Background(), o)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		for _, shard := range o.Shards {
			db, err := sql.Open("mysql", shard)
			noError(t, err)
			var versions, rows, nodes int
			noError(t, db.QueryRow("SELECT COUNT(DISTINCT version_id), COUNT(*) FROM goose_db_version").Scan(&versions, &rows))
			noError(t, db.QueryRow("SELECT COUNT(*) FROM node").Scan(&nodes))
			noError(t, db.Close())
			if versions != rows || nodes != 0 && nodes != order.NodesMax {
				t.Errorf("%d rows for %d versions, %d node numbers", rows, versions, nodes)
			}
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	good := testOptions(t, SQLite, 2)
	for want, change := range map[string]func(*Options){
		"dialect":                           func(o *Options) { o.Dialect = "oracle" },
		"at least one shard":                func(o *Options) { o.Shards = nil },
		"partitions":                        func(o *Options) { o.Partitions.Flash = 0 },
		"deadline":                          func(o *Options) { o.Deadline = -time.Second },
		"256":                               func(o *Options) { o.VirtualShards = []int{0, 1} },
		"shard 2 of 2":                      func(o *Options) { o.VirtualShards = slices.Repeat([]int{2}, 256) },
		"has no database":                   func(o *Options) { o.Dialect, o.Shards = MySQL, []string{"root@tcp(127.0.0.1:1)/"} },
		"source name does":                  func(o *Options) { o.Dialect, o.Shards = MySQL, []string{"secret"} },
		"unable to open":                    func(o *Options) { o.Shards = []string{t.TempDir()} },
		"it does not answer: is it running": func(o *Options) { o.Dialect, o.Shards = MySQL, []string{"root@tcp(127.0.0.1:1)/x"} },
	} {
		o := good
		change(&o)
		if _, err := Open(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestShardMap(t *testing.T) {
	s := newStore(t, SQLite, 3)
	perShard := map[int]int{}
	for u := range order.UserID(3000) {
		id := order.MakeID(1<<41, 3, order.VirtualShard(u), 7)
		if s.OrderShard(id) != s.UserShard(u) {
			t.Fatalf("user %d lives on shard %d, order %d on %d", u, s.UserShard(u), id, s.OrderShard(id))
		}
		perShard[s.UserShard(u)]++
	}
	for shard := range 3 {
		if n := perShard[shard]; n < 800 || n > 1200 {
			t.Errorf("shard %d has %d of 3000 users", shard, n)
		}
	}
	if got := runs(6, func(i int) int { return i / 4 }); got != "0-3:0 4-5:1" {
		t.Errorf("runs: %q", got)
	}
}
