package redisstock

import (
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/internal/redistest"
)

// says demands what the check says of the servers; empty: nothing. A warning begins with "warning: ".
func (o Options) says(t *testing.T, want string) {
	t.Helper()
	o.Partitions, o.Deadline = order.Partitions{Normal: 1, Flash: 1}, time.Second
	o.DialTimeout, o.CallTimeout = 5*time.Second, 5*time.Second
	st, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	var said string
	if err := st.Check(t.Context()); err != nil {
		said = err.Error()
	}
	for _, w := range st.Warnings(t.Context()) {
		said += "\nwarning: " + w
	}
	if !strings.Contains(said, want) || want == "" && said != "" {
		t.Errorf("the check says %q, want %q", said, want)
	}
}

func TestCheckServer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "appendonly no")
	o := onServer(s.Addr, s.Password)
	o.says(t, "")
	wrong, clustered, flash := o, o, o
	wrong.Credentials = as("", "wrong")
	wrong.says(t, "the user name or the password is wrong")
	clustered.Cluster = true
	clustered.says(t, "it is no node of a Redis Cluster")

	s.Do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	o.says(t, "maxmemory-policy is allkeys-lru")
	s.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	s.Do("CONFIG", "SET", "maxmemory", 0)
	o.says(t, "warning: redis at "+s.Addr+": it has no maxmemory")
	s.Do("CONFIG", "SET", "maxmemory", "256mb", "appendonly", "yes")
	o.says(t, "warning: redis at "+s.Addr+": it writes an append-only file")
	s.Do("CONFIG", "SET", "appendonly", "no")

	r := s.Replica("appendonly no")
	flash.FlashAddrs = []string{r.Addr}
	flash.says(t, "redis at "+r.Addr+": it is a replica of 127.0.0.1")
	o.says(t, "min-replicas-to-write 0, min-replicas-max-lag 10: after a failover the former master would go on selling")
	s.Do("CONFIG", "SET", "min-replicas-to-write", 1, "min-replicas-max-lag", 0)
	o.says(t, "min-replicas-to-write 1, min-replicas-max-lag 0: after")
	s.Do("CONFIG", "SET", "min-replicas-max-lag", 4)
	o.says(t, "Sentinel promotes them, its down-after-milliseconds may not be below 5000. Without Sentinel a replica is promoted by hand")
	s.Do("ACL", "SETUSER", "default", "-config")
	o.says(t, "does not show its settings")

	s.Kill()
	o.says(t, "it does not answer; is it running")
}

func TestCheckCluster(t *testing.T) {
	t.Parallel()
	nodes := redistest.Cluster(t, 3, "appendonly no", "min-replicas-to-write 1", "min-replicas-max-lag 4")
	o := onServer("127.0.0.1:1", nodes[0].Password)
	o.Cluster = true
	o.Addrs = append(o.Addrs, nodes[3].Addr) // nobody, and a replica
	o.says(t, "lets a former master sell for 5s, longer than cluster-node-timeout (1.5s) and engine.deadline (1s) together")
	for _, n := range nodes {
		n.Do("CONFIG", "SET", "min-replicas-max-lag", 1)
	}
	o.says(t, "")
	nodes[1].Do("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
	o.says(t, "redis at "+nodes[1].Addr+": its maxmemory-policy is volatile-ttl")
	nodes[1].Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	alone := o
	alone.Cluster, alone.Addrs = false, []string{nodes[0].Addr}
	alone.says(t, "it is a node of a Redis Cluster: set stock.redisstock.cluster to true")
	nodes[2].Kill()
	nodes[5].Kill()
	o.says(t, "warning: redis at "+nodes[2].Addr+": it does not answer")
	o.Addrs = o.Addrs[:1]
	o.says(t, "it does not answer")
}

// A user with the rights that the manual names, and no others, can do all that fast stock needs.
func TestRights(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "appendonly no")
	s.Do("ACL", "SETUSER", "shop", "on", ">"+s.Password, "~sluice:*", "+@read", "+@write", "+@scripting", "+info", "+time")
	o := onServer(s.Addr, s.Password)
	o.Credentials = as("shop", s.Password)
	o.says(t, "")
	r := newRig(t, o)
	r.begin()
	r.sell(2)
	r.must(r.st.Confirm(t.Context(), r.p, r.e, []order.BatchID{1}))
	if !r.begin() {
		t.Error("not intact")
	}
	s.Do("ACL", "SETUSER", "shop", "-info")
	o.says(t, "the user may not do what Sluice needs")
}
