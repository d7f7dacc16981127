package redistest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
)

// slots is how many hash slots a Redis Cluster has.
const slots = 16384

// Cluster starts a Redis Cluster of so many masters with a replica each, and waits until it is whole. The masters come
// first; server masters+i follows master i. Its nodes take one another for dead after a second and a half.
func Cluster(t testing.TB, masters int, lines ...string) []*Server {
	t.Helper()
	lines = append([]string{"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 1500"}, lines...)
	first := Start(t, lines...)
	nodes := []*Server{first}
	for len(nodes) < 2*masters {
		nodes = append(nodes, start(t, first.Password, lines))
	}
	for i, n := range nodes {
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < masters {
			n.Do("CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1)
		}
	}
	host, port, _ := net.SplitHostPort(first.Addr)
	for _, n := range nodes[1:] {
		n.Do("CLUSTER", "MEET", host, port)
	}
	for _, n := range nodes {
		n.AwaitCluster("cluster_known_nodes:" + strconv.Itoa(len(nodes)))
	}
	for i, n := range nodes[masters:] {
		// A node that was only heard of cannot be followed yet.
		n.await("its master", func() bool {
			c := n.Client()
			defer func() { _ = c.Close() }()
			return c.ClusterReplicate(t.Context(), nodes[i].NodeID()).Err() == nil
		})
		n.AwaitInfo("replication", "master_link_status:up")
	}
	for _, n := range nodes {
		n.AwaitCluster("cluster_state:ok")
	}
	return nodes
}

// Owner is the master that has a key, and other is another master.
func Owner(nodes []*Server, key string) (owner, other *Server) {
	for _, n := range nodes {
		n.t.Helper()
		if n.Info("replication", "role") != "master" {
			continue
		}
		c := n.Client()
		err := c.Exists(n.t.Context(), key).Err()
		_ = c.Close()
		if err == nil {
			owner = n
		} else {
			other = n
		}
	}
	if owner == nil || other == nil {
		nodes[0].t.Fatalf("no node has %s", key)
	}
	return owner, other
}

// MoveSlot moves the hash slot of a key with everything in it, key by key in a random order. each is called before the
// first and behind every one, with the number of those that have moved.
func MoveSlot(nodes []*Server, key string, each func(moved int)) {
	from, to := Owner(nodes, key)
	from.t.Helper()
	slot := from.Do("CLUSTER", "KEYSLOT", key)
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", from.NodeID())
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", to.NodeID())
	keys, _ := from.Do("CLUSTER", "GETKEYSINSLOT", slot, 1000).([]any)
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	host, port, _ := net.SplitHostPort(to.Addr)
	each(0)
	for i, k := range keys {
		from.Do("MIGRATE", host, port, k, 0, 30_000, "AUTH", from.Password)
		each(i + 1)
	}
	for _, n := range []*Server{to, from} {
		n.Do("CLUSTER", "SETSLOT", slot, "NODE", to.NodeID())
	}
}

// NodeID is the server's name in its cluster.
func (s *Server) NodeID() string {
	s.t.Helper()
	id, _ := s.Do("CLUSTER", "MYID").(string)
	return id
}

// AwaitCluster waits until CLUSTER INFO shows a line.
func (s *Server) AwaitCluster(line string) {
	s.t.Helper()
	s.await(line+" in CLUSTER INFO", func() bool {
		text, _ := s.Do("CLUSTER", "INFO").(string)
		return strings.Contains("\r\n"+text, "\r\n"+line+"\r\n")
	})
}
