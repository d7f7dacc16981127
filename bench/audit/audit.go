package audit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/engine/order"
)

// Options say what to read. Only Shards is required; what is not given is not checked, and the report says so.
type Options struct {
	Dialect string   // "sqlite" (the default) or "mysql"
	Shards  []string // SQLite: paths of files; MySQL: data source names; in the order of the deployment
	// VirtualShards gives the shard of each of the 256 slices of users; nil means even ranges.
	VirtualShards []int
	QueueFile     string // of the embedded queue; empty: the backlog that the ops listener tells
	OpsURL        string // such as http://127.0.0.1:8081; empty: fast stock is not checked
	OpsToken      string
	OpsTLS        *tls.Config // of the ops listener, if OpsURL is https
	TLS           *tls.Config // of the MySQL servers; nil: in plain
	History       []Entry     // what clients saw; nil: the rules about answers are not checked
	// Lost are orders that are known to be lost, as after the queue's log has lost its end. They alone may be missing though
	// they were answered, and must be.
	Lost []order.ID
	// Settle is how long to wait for a running server to come to rest before reading; 0: not at all.
	Settle time.Duration
}

// Run audits and reports. An error means that it could not read what it was given: no verdict.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c, err := gather(ctx, &o)
	if err != nil {
		return nil, err
	}
	report := &Report{At: time.Now().UTC().Truncate(time.Second), Orders: len(c.orders)}
	if c.selling() {
		report.Moving = "the server sold while it was read"
	}
	for _, rule := range rules {
		f := &finding{rule: Rule{Name: rule.name}}
		if rule.still && report.Moving != "" {
			f.notChecked(report.Moving)
		} else {
			rule.check(c, f)
		}
		report.Rules = append(report.Rules, f.result())
	}
	return report, nil
}

// gather reads everything, again if the server moved meanwhile, as long as the options allow: even at rest it sends a
// heartbeat through its queue now and then, and units that are due to come back may do so between two reads.
func gather(ctx context.Context, o *Options) (*evidence, error) {
	deadline := time.Now().Add(o.Settle)
	for {
		c := &evidence{opts: *o}
		for _, read := range []func(context.Context) error{c.settle, c.readShards, c.readQueue, c.readFast} {
			if err := read(ctx); err != nil {
				return nil, err
			}
		}
		c.merge()
		if c.fast == nil || c.moving() == "" && !c.selling() && len(c.due) == 0 || time.Now().After(deadline) {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (o *Options) validate() error {
	if o.Dialect == "" {
		o.Dialect = "sqlite"
	}
	if o.Dialect != "sqlite" && o.Dialect != "mysql" {
		return fmt.Errorf("audit: unknown dialect %q", o.Dialect)
	}
	if len(o.Shards) == 0 {
		return errors.New("audit: no shards to read")
	}
	if o.VirtualShards == nil {
		for v := range order.VirtualShards {
			o.VirtualShards = append(o.VirtualShards, v*len(o.Shards)/order.VirtualShards)
		}
	}
	if len(o.VirtualShards) != order.VirtualShards {
		return fmt.Errorf("audit: the map of virtual shards has %d entries, not %d", len(o.VirtualShards), order.VirtualShards)
	}
	return nil
}

// evidence is what is judged: everything that was read.
type evidence struct {
	opts   Options
	shards []*shard
	queue  *int64 // messages in the queue's file; nil: not read
	fast   *fast  // nil: not read
	before *fast  // as it was before the stores were read; nil: nobody looked

	orders []stored // of all shards, by id
	offers map[order.OfferID]*offer
	// Units in live orders, by offer, and by offer and user for limited ones.
	live map[order.OfferID]int64
	held map[holding]int64
	// Units that dead orders still hold on the stock side, because their give-back is due.
	due     map[order.OfferID]int64
	dueHeld map[holding]int64
}

// holding names what one user has of one offer.
type holding struct {
	offer order.OfferID
	user  order.UserID
}

func (c *evidence) readShards(ctx context.Context) error {
	c.shards = make([]*shard, len(c.opts.Shards))
	for i := range c.shards {
		s, err := openShard(ctx, &c.opts, i)
		if err != nil {
			return fmt.Errorf("audit: shard %d: %w", i, err)
		}
		defer s.close()
		c.shards[i] = s
	}
	each := func(read func(*shard, context.Context) error) error {
		g, gctx := errgroup.WithContext(ctx)
		for i, s := range c.shards {
			g.Go(func() error {
				if err := read(s, gctx); err != nil {
					return fmt.Errorf("audit: read shard %d: %w", i, err)
				}
				return nil
			})
		}
		return g.Wait()
	}
	if err := each((*shard).readHome); err != nil {
		return err
	}
	c.offers = map[order.OfferID]*offer{}
	given, seconds := map[order.ID]bool{}, map[string]bool{}
	for _, s := range c.shards {
		maps.Copy(c.offers, s.offers)
		maps.Copy(given, s.given)
		maps.Copy(seconds, s.second)
	}
	return each(func(s *shard, ctx context.Context) error {
		if err := s.readIndex(ctx, c.opts.Dialect); err != nil {
			return err
		}
		return s.readOrders(ctx, &judge{s: s, offers: c.offers, given: given, seconds: seconds, names: map[string]string{}})
	})
}
