package naive

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"sluice/engine/order"
	"sluice/gateway"
)

const secret = "a secret of thirty-two bytes, or more"

// options are those of a server in two databases and under a name of its own, which go when the test ends.
func options(t *testing.T) Options {
	t.Helper()
	place, url := os.Getenv("SLUICE_TEST_MYSQL"), os.Getenv("SLUICE_TEST_REDIS")
	if place == "" || url == "" {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal("SLUICE_TEST_MYSQL or SLUICE_TEST_REDIS is not set, and in CI nothing is skipped")
		}
		t.Skip("SLUICE_TEST_MYSQL or SLUICE_TEST_REDIS is not set")
	}
	r, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal("SLUICE_TEST_REDIS is no Redis URL")
	}
	o := Options{Listen: "127.0.0.1:0", JWTSecret: secret, Name: "test-" + strings.ToLower(rand.Text()), Units: 50, Connections: 4,
		Redis: redis.Options{Addr: r.Addr, Username: r.Username, Password: r.Password}}
	dsn, err := mysql.ParseDSN(place)
	if err != nil {
		t.Fatal("SLUICE_TEST_MYSQL is no data source name")
	}
	db, err := sql.Open("mysql", place)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dsn.DBName = "sluice_test_" + strings.ToLower(rand.Text())
		if _, err := db.Exec("CREATE DATABASE " + dsn.DBName); err != nil {
			t.Fatal(err)
		}
		o.Shards = append(o.Shards, dsn.FormatDSN())
	}
	t.Cleanup(func() {
		for _, shard := range o.Shards {
			dsn, _ := mysql.ParseDSN(shard) // it was made from one
			if _, err := db.Exec("DROP DATABASE " + dsn.DBName); err != nil {
				t.Error(err)
			}
		}
		client := redis.NewClient(r)
		err := client.Del(context.Background(), o.Name+":left", o.Name+":buyers", o.Name+":keys").Err()
		if err := errors.Join(err, client.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return o
}

// serve starts a server, which ends with the test, and returns its address.
func serve(t *testing.T, o Options) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Serve(ctx, o, w)
		_ = w.Close()
		ended <- err
	}()
	line := make([]byte, 100)
	n, _ := r.Read(line)
	addr, ok := strings.CutPrefix(strings.TrimSpace(string(line[:n])), "ready gateway=")
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if !ok {
		t.Fatalf("%q", line[:n])
	}
	return addr
}

// buy sends one order, and returns the status and the body.
func buy(t *testing.T, addr string, user order.UserID, key string, quantity int) (int, string) {
	t.Helper()
	body := `{"items":[{"offer_id":"1","quantity":` + strconv.Itoa(quantity) + `}]}`
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/v1/orders", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("Authorization", "Bearer "+gateway.MintToken(secret, user, time.Now().Add(time.Hour)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(answer)
}

// TestCrowd lets many buy few units, some of them twice with one key: units, rows and answers agree.
func TestCrowd(t *testing.T) {
	o := options(t)
	o.Limit = 3
	addr := serve(t, o)
	var mu sync.Mutex
	placed, soldOut := 0, 0
	var buying sync.WaitGroup
	for user := order.UserID(1); user <= 40; user++ {
		buying.Go(func() {
			for n := range 3 {
				status, body := buy(t, addr, user, "key-"+strconv.Itoa(n/2), 2-n/2) // the key of the first two is the same
				mu.Lock()
				switch {
				case status == 202 && n == 0:
					placed += 2
				case status == 202 && n == 2:
					placed++
				case status == 409 && strings.Contains(body, `"sold_out"`):
					soldOut++
				case status != 200 && status != 202:
					t.Errorf("%d %s", status, body)
				}
				mu.Unlock()
			}
		})
	}
	buying.Wait()
	sold, err := Count(context.Background(), o)
	if err != nil || sold.Units != 50 || sold.Taken != 50 || placed != 50 || soldOut == 0 {
		t.Errorf("%+v %v, %d placed, %d sold out", sold, err, placed, soldOut)
	}
}

// TestOneBuyer goes through the answers that one buyer can get.
func TestOneBuyer(t *testing.T) {
	o := options(t)
	o.Limit = 3
	addr := serve(t, o)
	for _, step := range []struct {
		key      string
		quantity int
		status   int
		has      string
	}{
		{"a", 2, 202, `"status":"pending"`},
		{"a", 2, 200, `"status":"awaiting_payment"`},
		{"a", 1, 422, "idempotency_key_reused"},
		{"b", 2, 409, "over_limit"},
		{"b", 1, 202, `"quantity":1`},
	} {
		if status, body := buy(t, addr, 7, step.key, step.quantity); status != step.status || !strings.Contains(body, step.has) {
			t.Errorf("%+v: %d %s", step, status, body)
		}
	}
	if sold, err := Count(context.Background(), o); err != nil || sold != (Sold{Orders: 2, Units: 3, Taken: 3}) {
		t.Errorf("%+v %v", sold, err)
	}
}

// TestRefusedRow gives the units of an order back that its shard did not take.
func TestRefusedRow(t *testing.T) {
	o := options(t)
	addr := serve(t, o)
	for _, place := range o.Shards {
		db, err := sql.Open("mysql", place)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("ALTER TABLE orders ADD CONSTRAINT few CHECK (quantity < 5)"); err != nil {
			t.Fatal(err)
		}
		_ = db.Close()
	}
	if status, body := buy(t, addr, 7, "a", 5); status != 504 {
		t.Errorf("%d %s", status, body)
	}
	if status, body := buy(t, addr, 7, "a", 4); status != 202 {
		t.Errorf("%d %s", status, body)
	}
	if sold, err := Count(context.Background(), o); err != nil || sold != (Sold{Orders: 1, Units: 4, Taken: 4}) {
		t.Errorf("%+v %v", sold, err)
	}
}

// TestTwoServersInOnePlace are refused: they would sell the units twice.
func TestTwoServersInOnePlace(t *testing.T) {
	o := options(t)
	serve(t, o)
	if err := Serve(context.Background(), o, &bytes.Buffer{}); err == nil {
		t.Error("no error")
	}
}
