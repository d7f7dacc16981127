package ops_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sluice/engine/order"
	"sluice/gateway/ops"
)

// tape is a feed of two shards; that of the second has three events.
type tape struct{}

func (tape) Shards() int { return 2 }

func (tape) FeedEvents(_ context.Context, shard int, after int64, limit int) (list []order.Event, err error) {
	for n := after + 1; shard == 1 && n <= 3 && len(list) < limit; n++ {
		list = append(list, order.Event{Shard: 1, Number: n, Order: 5, N: int(n) - 1, Type: "recorded", At: 1, Actor: "record", User: 7,
			Details: []byte(`{"note":"***"}`)})
	}
	return list, nil
}

func TestFeed(t *testing.T) {
	t.Parallel()
	l := start(t, func(p *ops.Program) { p.Feed = tape{} })
	for _, c := range []struct {
		query   string
		numbers string
		next    int64
	}{
		{"shard=1", "[1 2 3]", 3}, {"shard=1&limit=2", "[1 2]", 2}, {"shard=1&after=2", "[3]", 3}, {"shard=1&after=3", "[]", 3},
		{"shard=0", "[]", 0}, {"shard=0&after=9", "[]", 9},
	} {
		status, body := l.ask("GET", "/ops/feed?"+c.query, "")
		var page struct {
			Data []struct {
				Number  int64
				Details map[string]string
			}
			Next   int64 `json:"next_after"`
			Shards int
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 {
			t.Errorf("%s: %d %s, %v", c.query, status, body, err)
		}
		numbers := []int64{}
		for _, e := range page.Data {
			if numbers = append(numbers, e.Number); e.Details["note"] != "***" {
				t.Errorf("details %v", e.Details)
			}
		}
		if fmt.Sprint(numbers) != c.numbers || page.Next != c.next || page.Shards != 2 {
			t.Errorf("%s: events %v, next %d of %d shards", c.query, numbers, page.Next, page.Shards)
		}
	}
	for _, query := range []string{"", "?shard=2", "?shard=-1", "?shard=x", "?shard=1&after=-1", "?shard=1&after=x", "?shard=1&limit=0", "?shard=1&from=1"} {
		if status, body := l.ask("GET", "/ops/feed"+query, ""); status != 400 || !strings.Contains(body, "invalid_request") {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
}

// What another role has is told so.
func TestLackingSaysWho(t *testing.T) {
	t.Parallel()
	l := start(t, func(p *ops.Program) {
		p.Stock, p.Lacking = nil, &ops.Problem{Status: 404, Code: "not_found", Detail: "ask the gateway"}
	})
	for range 2 { // the answer is made anew each time
		if status, body := l.ask("GET", "/ops/stock", ""); status != 404 || !strings.Contains(body, "ask the gateway") {
			t.Errorf("%d %s", status, body)
		}
	}
	if status, body := l.ask("GET", "/ops/nothing", ""); status != 404 || strings.Contains(body, "ask the gateway") {
		t.Errorf("%d %s", status, body)
	}
}
