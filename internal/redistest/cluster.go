package redistest

import (
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
