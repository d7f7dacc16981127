package redisstock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/engine/stock/stocktest"
)

// deployment is what a test runs on: one Redis, one with a replica, or a cluster.
type deployment struct {
	variable string // names the servers' URLs
	cluster  bool
}

var (
	single      = deployment{variable: "SLUICE_TEST_REDIS"}
	withReplica = deployment{variable: "SLUICE_TEST_REDIS_REPLICA"}
	cluster     = deployment{variable: "SLUICE_TEST_REDIS_CLUSTER", cluster: true}
)

// options are those of a new deployment on the servers. Without servers the test is skipped; in CI that is a failure.
func (d deployment) options(t testing.TB) Options {
	t.Helper()
	urls := os.Getenv(d.variable)
	if urls == "" {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal(d.variable + " is not set, and in CI nothing is skipped")
		}
		t.Skip(d.variable + " is not set")
	}
	o := Defaults()
	o.Name = fmt.Sprintf("test-%x", rand.Uint64())
	o.Cluster = d.cluster
	o.Partitions = order.Partitions{Normal: 1, Flash: 2}
	o.CallTimeout, o.DialTimeout = 10*time.Second, 10*time.Second
	for _, url := range strings.Split(urls, ",") {
		u, err := redis.ParseURL(url)
		if err != nil {
			t.Fatal(d.variable + " is no list of Redis URLs")
		}
		o.Addrs, o.Credentials = append(o.Addrs, u.Addr), as("", u.Password)
	}
	if !d.cluster {
		o.Addrs = o.Addrs[:1]
	}
	return o
}

// dataset is a new deployment with a clock that stands still until it is moved, and a client beside the driver.
type dataset struct {
	t     testing.TB
	opts  Options
	sc    *scripts
	raw   redis.UniversalClient
	clock atomic.Int64
}

// clockScripts read the clock from a key of the partition instead of from the server.
var clockScripts = newScripts(func(fence string) string {
	const real = "  local t = call('TIME')\n  return t[1] * 1000 + math.floor(t[2] / 1000)\n"
	changed := strings.Replace(fence, real, "  return tonumber(call('GET', base .. 'clock'))\n", 1)
	if changed == fence {
		panic("the clock of fence.lua is not where the tests look for it")
	}
	return changed
})

// as are credentials that do not change.
func as(username, password string) func() (string, string) {
	return func() (string, string) { return username, password }
}

func newDataset(t testing.TB, d deployment) *dataset { return datasetOf(t, d.options(t)) }

func datasetOf(t testing.TB, o Options) *dataset {
	ds := &dataset{t: t, opts: o, sc: clockScripts}
	if o.Cluster {
		ds.raw = redis.NewClusterClient(&redis.ClusterOptions{Addrs: ds.opts.Addrs, CredentialsProvider: ds.opts.Credentials})
	} else {
		ds.raw = redis.NewClient(&redis.Options{Addr: ds.opts.Addrs[0], CredentialsProvider: ds.opts.Credentials})
	}
	ds.clock.Store(time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC).UnixMilli())
	ds.advance(0)
	t.Cleanup(func() {
		for p := range ds.opts.Partitions.Count() {
			ds.lose(order.Partition(p), stocktest.LoseAll)
			ds.must(ds.raw.Del(context.Background(), ds.key(order.Partition(p), "clock")).Err())
		}
		ds.must(ds.raw.Close())
	})
	return ds
}

func (ds *dataset) must(err error) {
	ds.t.Helper()
	if err != nil {
		ds.t.Fatal(err)
	}
}

func (ds *dataset) key(p order.Partition, name string) string {
	return fmt.Sprintf("%s:{%d}:%s", ds.opts.Name, p, name)
}

func (ds *dataset) now() time.Time { return time.UnixMilli(ds.clock.Load()) }

func (ds *dataset) advance(d time.Duration) {
	at := ds.clock.Add(d.Milliseconds())
	for p := range ds.opts.Partitions.Count() {
		ds.must(ds.raw.Set(context.Background(), ds.key(order.Partition(p), "clock"), at, 0).Err())
	}
}

func (ds *dataset) client() stock.Stock {
	s, err := open(ds.opts, ds.sc)
	ds.must(err)
	ds.t.Cleanup(func() { ds.must(s.Close()) })
	return s
}

// lose takes something of a partition away, as a person or a failing server would.
func (ds *dataset) lose(p order.Partition, what stocktest.Loss) {
	ds.t.Helper()
	ctx := context.Background()
	fence := ds.key(p, "fence")
	about, err := ds.raw.HMGet(ctx, fence, "epoch", "period").Result()
	ds.must(err)
	epoch, _ := about[0].(string)
	text, _ := about[1].(string)
	period, _ := strconv.Atoi(text)
	records := []string{ds.key(p, "idem:"+text), ds.key(p, "idem:"+strconv.Itoa(period-1))}
	switch what {
	case stocktest.LoseAll:
		keys := append(records, fence, ds.key(p, "outbox"))
		for _, name := range []string{"left", "offers", "buyers"} {
			keys = append(keys, ds.key(p, epoch+":"+name))
		}
		ds.must(ds.raw.Del(ctx, keys...).Err())
	case stocktest.LoseIdentity:
		if epoch != "" {
			ds.must(ds.raw.HSet(ctx, fence, "id", "another").Err())
		}
	case stocktest.LoseFence:
		ds.must(ds.raw.Del(ctx, fence).Err())
	case stocktest.LoseIdem:
		ds.must(ds.raw.Del(ctx, records[rand.IntN(2)]).Err())
	case stocktest.LoseOutbox:
		ds.must(ds.raw.Del(ctx, ds.key(p, "outbox")).Err())
	default:
		ds.must(ds.raw.Del(ctx, ds.key(p, epoch+":"+string(what))).Err())
	}
}

func harness(d deployment) stocktest.Harness {
	return stocktest.Harness{Open: func(t testing.TB) *stocktest.Data {
		ds := newDataset(t, d)
		return &stocktest.Data{Partitions: ds.opts.Partitions, Client: ds.client, Now: ds.now, Advance: ds.advance, Lose: ds.lose}
	}}
}
