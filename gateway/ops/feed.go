package ops

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"

	"sluice/engine/order"
)

// Feed is the feed of order events, one log per user shard. *store.Store is one.
type Feed interface {
	Shards() int
	// FeedEvents reads at most limit events of a shard behind the one of a number, in order.
	FeedEvents(ctx context.Context, shard int, after int64, limit int) ([]order.Event, error)
}

// readFeed answers a page of a shard's feed. next_after is where the next page begins, also when nothing has come yet.
func (s *Server) readFeed(r *http.Request) (int, any, error) {
	limit, err := pageLimit(r, pageMax)
	if err != nil {
		return 0, nil, err
	}
	query := r.URL.Query()
	shards := s.program.Feed.Shards()
	shard, err := strconv.Atoi(query.Get("shard"))
	if err != nil || shard < 0 || shard >= shards {
		return 0, nil, invalid(fmt.Sprintf("shard must be 0 to %d: each user shard has a feed of its own", shards-1))
	}
	var after int64
	if text := query.Get("after"); text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			return 0, nil, invalid("after must be the number of the last event that you have, 0 for none")
		}
	}
	events, err := s.program.Feed.FeedEvents(r.Context(), shard, after, limit)
	if err != nil {
		return 0, nil, err
	}
	var b bytes.Buffer
	b.WriteString(`{"data":[`)
	for i := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(order.AppendEvent(b.AvailableBuffer(), &events[i]))
		after = events[i].Number
	}
	fmt.Fprintf(&b, `],"next_after":%d,"shards":%d}`+"\n", after, shards)
	return http.StatusOK, rawBody{"application/json", b.Bytes()}, nil
}
