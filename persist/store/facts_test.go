package store

import (
	"context"
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
		others := map[string]func(*Options){
			`partitions: this deployment was created with "4 normal, 4 flash", the configuration now says "8 normal, 4 flash"`: func(o *Options) { o.Partitions.Normal = 8 },
			`deadline: this deployment was created with "1s", the configuration now says "2s"`:                                 func(o *Options) { o.Deadline *= 2 },
			`the configuration now says "0-255:0"`: func(o *Options) { o.VirtualShards = make([]int, order.VirtualShards) },
			`check the list of shards`:             func(o *Options) { o.Shards = []string{o.Shards[1], o.Shards[0]} },
			`partition_shards:`:                    func(o *Options) { o.Shards = append(o.Shards, testOptions(t, d, 1).Shards...) },
			`shard 1 is not this deployment's`: func(o *Options) {
				other := testOptions(t, d, 2)
				noError(t, openStore(t, other).Close())
				o.Shards = []string{o.Shards[0], other.Shards[1]}
			},
		}
		for want, change := range others {
			changed := o
			changed.Shards = slices.Clone(o.Shards)
			change(&changed)
			s, err := Open(context.Background(), changed)
			if err == nil {
				noError(t, s.Close())
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		}
		s := openStore(t, o)
		noError(t, s.Fact(context.Background(), "queues", "0-7:0"))
		noError(t, s.Fact(context.Background(), "queues", "0-7:0"))
		if err := s.Fact(context.Background(), "queues", "0-7:1"); err == nil {
			t.Error("another fact changed")
		}
	})
}

func TestOpenAtOnce(t *testing.T) {
	needMySQL(t)
	o := testOptions(t, MySQL, 2)
	race(4, func(int) {
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Error(err)
			return
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestOptionsRefused(t *testing.T) {
	good := testOptions(t, SQLite, 2)
	for want, change := range map[string]func(*Options){
		"dialect":             func(o *Options) { o.Dialect = "oracle" },
		"at least one shard":  func(o *Options) { o.Shards = nil },
		"partitions":          func(o *Options) { o.Partitions.Flash = 0 },
		"deadline":            func(o *Options) { o.Deadline = -time.Second },
		"256":                 func(o *Options) { o.VirtualShards = []int{0, 1} },
		"shard 2 of 2":        func(o *Options) { o.VirtualShards = slices.Repeat([]int{2}, 256) },
		"has no database":     func(o *Options) { o.Dialect, o.Shards = MySQL, []string{"root@tcp(127.0.0.1:1)/"} },
		"source name does":    func(o *Options) { o.Dialect, o.Shards = MySQL, []string{"secret"} },
		"unable to open":      func(o *Options) { o.Shards = []string{t.TempDir()} },
		"open shard 0: dial ": func(o *Options) { o.Dialect, o.Shards = MySQL, []string{"root@tcp(127.0.0.1:1)/x"} },
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
