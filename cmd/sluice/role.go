package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/configs"
	"sluice/engine/order"
	"sluice/gateway/ops"
)

// role says which stages a process runs. Every role has the store, the queue, the ops listener and the lease of a node number,
// by which others see that it runs (store.AdoptQueue).
type role string

// sells: the public listener and the engine, with fast stock. It cancels orders too, in the
// store; what is then to be done belongs to who tends.
func (r role) sells() bool { return r == configs.RoleAll || r == configs.RoleGateway }

// stores: persist, which replays and rejects what is stuck.
func (r role) stores() bool { return r == configs.RoleAll || r == configs.RolePersist }

// tends: what happens to stored orders by itself, and the feed of events.
func (r role) tends() bool { return r == configs.RoleAll || r == configs.RoleLifecycle }

// stage is the one that a role is named after, as its snapshot is reported.
func (r role) stage() string {
	if r == configs.RoleAll {
		return configs.RoleGateway
	}
	return string(r)
}

func (s *Server) role() role { return role(s.config.Role) }

// elsewhere is the answer to a call that needs a stage of another role.
func (r role) elsewhere(which, what string) *ops.Problem {
	return &ops.Problem{Status: 404, Code: "not_found",
		Detail: fmt.Sprintf("this process has the role %s, which does not %s: ask the ops listener of one with the role %s", r, what, which)}
}

// validateRole refuses roles whose processes could not work together.
func (d *drivers) validateRole(c *configs.Config) error {
	if c.Role == configs.RoleAll {
		return nil
	}
	refuse := func(setting, has, needed string) error {
		return fmt.Errorf("role %s is one of several processes, which cannot share %s %s: %s, or the role all", c.Role, setting, has, needed)
	}
	switch {
	case c.Stock.Driver == "memstock":
		return refuse("stock.driver", "memstock", "it needs redisstock")
	case c.Queue.Driver == "sqlitequeue" && d.shared == nil:
		return refuse("queue.driver", "sqlitequeue", "it needs rocketqueue")
	case c.Store.Dialect == "sqlite":
		return refuse("store.dialect", "sqlite", "it needs mysql")
	}
	return nil
}

const (
	reachFor  = time.Second // how long a look is believed
	reachWait = time.Second // how long one may take
)

// reach is what did not answer when it was last asked.
type reach struct {
	mu      sync.Mutex
	looked  time.Time
	missing []string
}

// unreachable names the shards that do not answer, and the queue if it does not. It takes reachWait at most.
func (s *Server) unreachable() []string {
	l := &s.reach
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.looked) > reachFor {
		ctx, cancel := context.WithTimeout(context.Background(), reachWait)
		defer cancel()
		l.missing = s.ask(ctx)
		l.looked = time.Now()
	}
	return slices.Clone(l.missing)
}

// ask asks all of them at once: one that hangs keeps nobody from answering. Why one does not is in the log: /readyz is
// for everybody.
func (s *Server) ask(ctx context.Context) (missing []string) {
	texts := make([]string, s.store.Shards()+1)
	var asked sync.WaitGroup
	try := func(i int, what string, do func() error) {
		asked.Go(func() {
			if err := do(); err != nil {
				texts[i] = what + " does not answer"
				s.log.Warn("not ready: "+texts[i], "error", err)
			}
		})
	}
	for shard := range s.store.Shards() {
		try(shard, fmt.Sprintf("shard %d", shard), func() error {
			_, err := s.store.Now(ctx, shard)
			return err
		})
	}
	try(s.store.Shards(), "the queue", func() error {
		_, err := s.queue.Backlog(ctx, order.Partition(0))
		return err
	})
	asked.Wait()
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}
