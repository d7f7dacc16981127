package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/rocketmqtest"
)

// cluster is an upheaval of processes of every role on a RocketMQ of their own.
type cluster struct {
	*upheaval
	rocket *rocketmqtest.RocketMQ
}

// TestClusterFaults breaks every part of a whole cluster under load, as TestFaults does: broker, name server, gateways,
// persisters, the lifecycle, and all of it at once.
func TestClusterFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	t.Parallel()
	times := faultTimes()
	once := times
	if times == 2 {
		once = 1
	}
	c := newCluster(t)
	c.start(c.posts...)
	c.fill()
	for _, f := range []struct {
		name   string
		times  int
		strike func() time.Time
	}{
		{"kill -9 of the broker", times, c.killBroker},
		{"the broker stopped for 40 s", once, c.pauseBroker},
		{"kill -9 of the name server", times, c.killNameServer},
		{"kill -9 of the broker while there is no name server", once, c.killBrokerAlone},
		{"kill -9 of a gateway", times, c.kill("gateway")},
		{"kill -9 of a persister", times, c.kill("persist")},
		{"kill -9 of the lifecycle", times, c.kill("lifecycle")},
		{"SIGTERM of a gateway, a persister and the lifecycle, in turn", times, c.endEach},
		{"kill -9 of a persister that holds batches", times, c.killHolder},
		{"a persister stopped until another has its partitions", once, c.freeze},
		{"kill -9 of Redis", once, c.killRedis},
		{"kill -9 of a database server", once, c.killShard},
		{"kill -9 of everything", times, c.killAll},
	} {
		if wanted(f.name) {
			for range f.times {
				c.suffer(f.name, f.strike)
				c.noPile()
			}
		}
	}
	if name := "the end of the broker's log lost"; wanted(name) {
		for range times {
			c.sufferLoss(name)
		}
	}
	t.Logf("all faults of the cluster:\n%s", table(c.report))
}

// newCluster starts all but the processes. Its broker gives the queues of a consumer that is frozen away after 20 s.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{upheaval: newUpheaval(t, "gateway", "gateway", "persist", "persist", "lifecycle"),
		rocket: rocketmqtest.Start(t, "serverChannelMaxIdleTimeSeconds=20")}
	for _, p := range c.posts {
		p.set = append(p.set, "queue.driver=rocketqueue", "queue.rocketqueue.name_servers="+c.rocket.NameServer.Addr, "engine.drift_every=1s")
	}
	return c
}

// noPile: what has failed is not left running. A client of RocketMQ that was replaced lingers for two minutes.
func (c *cluster) noPile() {
	c.t.Helper()
	const most = 500
	for _, p := range c.posts {
		a := p.must(200, "GET", p.ops+"/metrics", p.secrets.OpsToken, "")
		_, rest, _ := strings.Cut(string(a.body), "\ngo_goroutines ")
		n := 0
		if _, err := fmt.Sscan(rest, &n); err != nil || n > most {
			c.t.Errorf("the %s has %d goroutines, %v", p.role, n, err)
		}
		c.t.Logf("goroutines of the %s: %d", p.role, n)
	}
}

// some is a post of a role, by chance.
func (c *cluster) some(role string) *post {
	of := slices.DeleteFunc(slices.Clone(c.posts), func(p *post) bool { return p.role != role })
	return of[c.rand.IntN(len(of))]
}

// killBroker: it takes some seconds to come back.
func (c *cluster) killBroker() time.Time {
	c.rocket.Broker.Kill()
	broken := time.Now()
	c.rocket.Broker.Start()
	c.awaitStored(time.Now())
	return broken
}

// pauseBroker: connections stay, and nobody is answered. What the broker was sent meanwhile it stores when it goes on, when
// nobody waits for it any more. Who stores orders says that he is not ready.
func (c *cluster) pauseBroker() time.Time {
	c.t.Helper()
	c.rocket.Broker.Pause()
	broken := time.Now()
	p := c.some("persist")
	c.await("a persister to miss the queue", func() bool {
		a, err := p.try("GET", p.ops+"/readyz", "", "")
		return err == nil && a.status == 503 && strings.Contains(string(a.body), "the queue does not answer")
	})
	for time.Since(broken) < 40*time.Second {
		time.Sleep(100 * time.Millisecond)
	}
	c.rocket.Broker.Resume()
	c.awaitStored(time.Now())
	return broken
}

// killNameServer: everything goes on without it.
func (c *cluster) killNameServer() time.Time {
	c.rocket.NameServer.Kill()
	broken := time.Now()
	c.awaitOrders(100)
	c.awaitStored(broken)
	c.rocket.NameServer.Start()
	return broken
}

// killBrokerAlone: who has found the broker once finds it again.
func (c *cluster) killBrokerAlone() time.Time {
	c.rocket.NameServer.Kill()
	broken := c.killBroker()
	c.rocket.NameServer.Start()
	return broken
}

// kill kills a process of a role, which has its next life a little later.
func (c *cluster) kill(role string) func() time.Time {
	return func() time.Time {
		p := c.some(role)
		c.end(p, syscall.SIGKILL)
		broken := time.Now()
		c.comeBack(p)
		return broken
	}
}

func (c *cluster) endEach() time.Time {
	broken := time.Now()
	for _, role := range []string{"gateway", "persist", "lifecycle"} {
		p := c.some(role)
		c.end(p, syscall.SIGTERM)
		c.comeBack(p)
	}
	return broken
}

// comeBack starts a process that others have done without for a while.
func (c *cluster) comeBack(p *post) {
	c.awaitOrders(100)
	c.start(p)
	c.awaitStored(time.Now())
}

// killHolder kills a persister that holds batches: a database server does not let it store them.
func (c *cluster) killHolder() time.Time {
	s := c.shards[c.rand.IntN(len(c.shards))]
	s.Pause()
	c.awaitOrders(100)
	p := c.some("persist")
	c.end(p, syscall.SIGKILL)
	broken := time.Now()
	s.Resume()
	c.start(p)
	c.awaitStored(time.Now())
	return broken
}

// freeze stops a persister for as long as it takes others to get what it has, and lets it go on with what it holds.
func (c *cluster) freeze() time.Time {
	c.t.Helper()
	p := c.some("persist")
	c.signal(p, syscall.SIGSTOP)
	broken := time.Now()
	c.awaitStored(broken.Add(time.Second))
	if since := time.Since(broken); since < 10*time.Second {
		c.t.Errorf("orders of every offer were stored %v after a persister was stopped: it had none of their partitions", since)
	}
	c.signal(p, syscall.SIGCONT)
	c.awaitOrders(200)
	c.awaitStored(time.Now())
	return broken
}

// killAll kills every process and every server, and starts them in no order that anybody thought of.
func (c *cluster) killAll() time.Time {
	for _, p := range c.posts {
		c.end(p, syscall.SIGKILL)
	}
	c.rocket.Broker.Kill()
	c.rocket.NameServer.Kill()
	c.redis.Kill()
	for _, s := range c.shards {
		s.Kill()
	}
	broken := time.Now()
	started := make(chan error, 1)
	go func() { started <- startAll(c.posts) }()
	c.rocket.NameServer.Start()
	c.redis.Start()
	for _, s := range c.shards {
		s.Start()
	}
	c.rocket.Broker.Start()
	if err := <-started; err != nil {
		c.t.Fatal(err)
	}
	c.awaitStored(time.Now())
	return broken
}
