package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/engine/order"
)

// fast is what the running server's fast stock says (GET /ops/stock).
type fast struct {
	Partitions []fastPartition `json:"partitions"`
}

type fastPartition struct {
	Partition order.Partition  `json:"partition"`
	Kind      string           `json:"kind"`
	State     string           `json:"state"`
	Applied   uint64           `json:"applied"`
	Logged    uint64           `json:"logged"`
	Outbox    int64            `json:"outbox"`
	Waiting   int64            `json:"waiting"`
	Backlog   int64            `json:"backlog"`
	Left      map[string]int64 `json:"left"`
	Buyers    [][3]any         `json:"buyers"`
}

// sells tells whether the server sells offers of a kind (sluice serve --kinds).
func (f *fast) sells(kind string) bool {
	return slices.ContainsFunc(f.Partitions, func(p fastPartition) bool { return p.Kind == kind })
}

// moving says what keeps the server from being at rest, or "".
func (f *fast) moving() string {
	for i := range f.Partitions {
		p := &f.Partitions[i]
		switch {
		case p.State != "open":
			return fmt.Sprintf("partition %d is %s", p.Partition, p.State)
		case p.Backlog > 0:
			return fmt.Sprintf("partition %d has %d messages in its queue", p.Partition, p.Backlog)
		case p.Outbox > 0 || p.Waiting > 0:
			return fmt.Sprintf("partition %d has %d batches in its outbox and %d requests waiting", p.Partition, p.Outbox, p.Waiting)
		case p.Applied != p.Logged:
			return fmt.Sprintf("partition %d has applied %d of %d rows of its stock log", p.Partition, p.Applied, p.Logged)
		}
	}
	return ""
}

// moving says what keeps the evidence from being that of one moment at rest, or "". The server may have given units back
// between the reading of the shards and of fast stock, and learns of new rows of the stock log a moment late: what
// counts is whether fast stock had applied exactly the rows that were read.
func (c *evidence) moving() string {
	if why := c.fast.moving(); why != "" {
		return why
	}
	for i := range c.fast.Partitions {
		p := &c.fast.Partitions[i]
		for _, s := range c.shards {
			if x, home := s.parts[p.Partition]; home && uint64(x.logged) != p.Applied {
				return fmt.Sprintf("partition %d has %d rows in its stock log and fast stock applied %d", p.Partition, x.logged, p.Applied)
			}
		}
	}
	return ""
}

// selling tells whether units were sold or came back while the stores were read. A server that is stuck does not sell: it
// is at fault, not the moment.
func (c *evidence) selling() bool {
	if c.fast == nil || c.before == nil {
		return false
	}
	for i := range c.fast.Partitions {
		if !slices.ContainsFunc(c.before.Partitions, func(p fastPartition) bool {
			return p.Partition == c.fast.Partitions[i].Partition && maps.Equal(p.Left, c.fast.Partitions[i].Left)
		}) {
			return true
		}
	}
	return false
}

// settle waits until a running server says that it is at rest, as long as the options allow. Whether it was is judged
// later: by then it may have moved again.
func (c *evidence) settle(ctx context.Context) error {
	if c.opts.OpsURL == "" || c.opts.Settle == 0 {
		return nil
	}
	deadline := time.Now().Add(c.opts.Settle)
	for {
		f, err := c.getFast(ctx)
		if err != nil {
			return err
		}
		c.before = f
		if f.moving() == "" || time.Now().After(deadline) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *evidence) readFast(ctx context.Context) (err error) {
	if c.opts.OpsURL != "" {
		c.fast, err = c.getFast(ctx)
	}
	return err
}

func (c *evidence) getFast(ctx context.Context) (*fast, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.opts.OpsURL, "/")+"/ops/stock", nil)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.opts.OpsToken)
	client := http.DefaultClient
	if c.opts.OpsTLS != nil {
		transport := &http.Transport{TLSClientConfig: c.opts.OpsTLS}
		defer transport.CloseIdleConnections()
		client = &http.Client{Transport: transport}
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("audit: read fast stock: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		detail, _ := io.ReadAll(io.LimitReader(res.Body, 500))
		return nil, fmt.Errorf("audit: read fast stock: %s: %s", res.Status, detail)
	}
	f := &fast{}
	d := json.NewDecoder(res.Body)
	d.UseNumber()
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("audit: read fast stock: %w", err)
	}
	return f, nil
}

// left gives the units left of every offer, and buyers what users hold.
func (f *fast) left() map[order.OfferID]int64 {
	left := map[order.OfferID]int64{}
	for i := range f.Partitions {
		for id, n := range f.Partitions[i].Left {
			left[order.OfferID(parse(id))] = n
		}
	}
	return left
}

func (f *fast) buyers() map[holding]int64 {
	held := map[holding]int64{}
	for i := range f.Partitions {
		for _, b := range f.Partitions[i].Buyers {
			held[holding{order.OfferID(parse(b[0])), order.UserID(parse(b[1]))}] = int64(parse(b[2]))
		}
	}
	return held
}

// parse reads a number that JSON has as string or number; anything else is 0, which no id is.
func parse(v any) uint64 {
	n, _ := strconv.ParseUint(fmt.Sprint(v), 10, 63)
	return n
}

// readQueue counts the messages in the file of the embedded queue.
func (c *evidence) readQueue(ctx context.Context) error {
	if c.opts.QueueFile == "" {
		return nil
	}
	if _, err := os.Stat(c.opts.QueueFile); err != nil {
		return fmt.Errorf("audit: queue: %w", err)
	}
	db, conn, err := openReadOnly(ctx, "sqlite", c.opts.QueueFile, nil)
	if err != nil {
		return fmt.Errorf("audit: queue: %w", err)
	}
	defer db.Close()
	defer conn.Close()
	var n int64
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM message").Scan(&n); err != nil {
		return fmt.Errorf("audit: queue: %w", err)
	}
	c.queue = &n
	return nil
}
