package redisstock

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/internal/certtest"
	"sluice/internal/processtest"
	"sluice/internal/redistest"
)

// Whoever answers in the place of a server that speaks TLS gets no word in plain, least of all the password, and a call that
// ends there was not executed.
func TestNothingInPlain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	var heard bytes.Buffer
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			mu.Lock()
			heard.Write(b[:n])
			mu.Unlock()
			_, _ = c.Write([]byte("+OK\r\n"))
			_ = c.Close()
		}
	}()
	trusted := certtest.New(t).Trusting()
	o := Defaults()
	o.Addrs, o.Credentials, o.Partitions = []string{l.Addr().String()}, as("sluice", "secret-0123456789"), order.Partitions{Normal: 1, Flash: 1}
	o.TLS.Enabled, o.Secure = true, func() *tls.Config { return trusted }
	st, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if _, err := st.Reserve(t.Context(), &stock.ReserveCall{}); !stock.NotExecuted(err) {
		t.Errorf("%v, want not executed", err)
	}
	if err := st.Check(t.Context()); err == nil {
		t.Error("the check passes")
	}
	mu.Lock()
	defer mu.Unlock()
	if b := heard.Bytes(); len(b) == 0 || b[0] != 22 || bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("EVALSHA")) {
		t.Errorf("it heard %q", b) // 22 begins a handshake
	}
}

// A cluster is followed over the ports at which its nodes speak TLS: MOVED and the list of its masters name them.
func TestClusterInTLS(t *testing.T) {
	t.Parallel()
	authority := certtest.New(t)
	pair := authority.Sign("redis", certtest.Leaf{})
	var nodes []*redistest.Server
	var addrs []string
	for i := range 3 {
		addrs = append(addrs, processtest.FreeAddr(t, 10_000))
		_, port, _ := net.SplitHostPort(addrs[i])
		nodes = append(nodes, redistest.Start(t, "cluster-enabled yes", "cluster-config-file nodes.conf", "tls-cluster yes",
			"tls-port "+port, "tls-cert-file "+pair.CertificateFile, "tls-key-file "+pair.KeyFile, "tls-ca-cert-file "+authority.File, "tls-auth-clients no"))
	}
	for i, n := range nodes {
		n.Do("CONFIG", "SET", "requirepass", "same")
		n.Password = "same"
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		n.Do("CLUSTER", "ADDSLOTSRANGE", i*16384/3, (i+1)*16384/3-1)
	}
	for i := range nodes[1:] {
		host, port, _ := net.SplitHostPort(addrs[i+1])
		nodes[0].Do("CLUSTER", "MEET", host, port)
	}
	for _, n := range nodes {
		n.AwaitCluster("cluster_known_nodes:3")
		n.AwaitCluster("cluster_state:ok")
	}
	trusted := authority.Trusting()
	o := onServer(addrs[0], "same")
	o.Cluster, o.TLS.Enabled, o.Secure = true, true, func() *tls.Config { return trusted }
	o.DialTimeout, o.CallTimeout = 5*time.Second, 10*time.Second
	r := newRig(t, o)
	for r.p = 0; int(r.p) < o.Partitions.Count(); r.p++ {
		r.begin()
		r.sell(1)
	}
	r.must(r.st.Check(t.Context()))
	if known := r.st.normal.places(); len(known) != 3 || !slices.Contains(known, addrs[1]) || !slices.Contains(known, addrs[2]) {
		t.Errorf("it knows %v, the nodes speak TLS at %v", known, addrs)
	}
}
