package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/engine/order"
)

// onRedis is the settings of a server with fast stock in Redis under a name of its own.
func onRedis(t testing.TB) (client *redis.Client, name string, set []string) {
	t.Helper()
	url := os.Getenv("SLUICE_TEST_REDIS")
	if url == "" {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal("SLUICE_TEST_REDIS is not set, and in CI nothing is skipped")
		}
		t.Skip("SLUICE_TEST_REDIS is not set")
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal("SLUICE_TEST_REDIS is no Redis URL")
	}
	file := t.TempDir() + "/password"
	if err := os.WriteFile(file, []byte(o.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	client = redis.NewClient(o)
	name = "test-" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		wipe(t, client, name)
		_ = client.Close()
	})
	return client, name, []string{"stock.driver=redisstock", "stock.redisstock.addrs=" + o.Addr, "stock.redisstock.name=" + name,
		"secrets.redis_password_file=" + file}
}

// wipe removes all that a deployment has in Redis.
func wipe(t testing.TB, client *redis.Client, name string) {
	t.Helper()
	keys, err := client.Keys(t.Context(), name+":*").Result()
	if t.Context().Err() != nil {
		return // the test is over: the name is used by nobody else
	}
	if err == nil && len(keys) > 0 {
		err = client.Del(t.Context(), keys...).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestRedis runs orders with fast stock in Redis and the store on MySQL shards: a restart rebuilds nothing, and when Redis
// loses all it held, the units that were sold stay sold.
func TestRedis(t *testing.T) {
	t.Parallel()
	client, name, set := onRedis(t)
	_, shards := onMySQL(t)
	set = append(set, shards...)
	dir := t.TempDir()
	s, stop := open(t, dir, set...)
	s.set = set
	offer := s.offer("flash", 100, 1)
	buy := func(from, to int) {
		for user := from; user < to; user++ {
			for {
				a, err := s.try("POST", s.gateway+"/v1/orders?wait=5", s.token(order.UserID(user)), line(offer, 1), "Idempotency-Key", "k")
				if err == nil && a.status == 201 {
					break
				}
				if err != nil || a.status != 503 { // 503: the partition is counted anew
					t.Fatal(a, err)
				}
				<-time.After(50 * time.Millisecond)
			}
		}
	}
	buy(1, 9)
	s.must(409, "POST", s.gateway+"/v1/orders", s.token(1), line(offer, 1), "Idempotency-Key", "another")
	s.remaining(offer, "92")
	s.audited(true)
	epochs := func() (all string) {
		for p := range 8 {
			all += client.HGet(t.Context(), fmt.Sprintf("%s:{%d}:fence", name, p), "epoch").Val() + " "
		}
		return all
	}
	before := epochs()
	stop()

	s, stop = open(t, dir, set...)
	s.set = set
	buy(20, 24)
	if after := epochs(); after != before {
		t.Errorf("a restart on an intact Redis began epochs %s, before they were %s", after, before)
	}
	wipe(t, client, name)
	buy(30, 38)
	s.remaining(offer, "80")
	if !await(func() bool { // 504 as long as an order of this key may be on its way to the store
		a, err := s.try("POST", s.gateway+"/v1/orders", s.token(1), line(offer, 1), "Idempotency-Key", "another")
		if err != nil || a.status != 409 && a.status != 504 {
			t.Fatal(a, err)
		}
		return a.status == 409
	}) {
		t.Error("the key of no order was never refused")
	}
	s.audited(true)
	stop()
}
