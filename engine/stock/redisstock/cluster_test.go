package redisstock

import (
	"context"
	"testing"

	"sluice/engine/stock"
	"sluice/internal/redistest"
)

// newClusterRig is a rig on a cluster, of which the driver is told one node: the master of its partition.
func newClusterRig(t *testing.T) (r *rig, nodes []*redistest.Server) {
	t.Helper()
	nodes = redistest.Cluster(t, 3)
	o := onServer(nodes[0].Addr, nodes[0].Password)
	o.Cluster = true
	r = newRig(t, o)
	r.begin()
	owner, _ := redistest.Owner(nodes, r.st.fenceKey(r.p))
	r.must(r.st.Close())
	o.Addrs = []string{owner.Addr}
	e := r.e
	r = newRig(t, o)
	r.e = e
	return r, nodes
}

// TestSlotMoves: while a slot is on its way, what is left of the partition sells nothing and can be rebuilt nowhere; once
// it has arrived, a rebuild takes it for lost.
func TestSlotMoves(t *testing.T) {
	t.Parallel()
	r, nodes := newClusterRig(t)
	r.sell(3)
	_, to := redistest.Owner(nodes, r.st.fenceKey(r.p))
	redistest.MoveSlot(nodes, r.st.fenceKey(r.p), func(moved int) {
		call := r.call()
		_, err := r.st.Reserve(t.Context(), call)
		if moved == 0 {
			r.must(err)
			return
		}
		if !stock.NotExecuted(err) {
			t.Errorf("%d keys have moved, and a reserve gives %v", moved, err)
		}
		if _, _, err := r.st.Shut(t.Context(), r.p, r.e+1); !stock.NotExecuted(err) {
			t.Errorf("%d keys have moved, and the fence was shut (%v)", moved, err)
		}
	})
	r.refuses(to, stock.OtherIdentity)
	if r.begin() {
		t.Error("taken for intact")
	}
	r.sell(1)
	r.wantLeft(999, 999)
}

// TestMasterFailsOver: the driver was told one master. That dies; then its heir does, when the first is back at another
// address.
func TestMasterFailsOver(t *testing.T) {
	t.Parallel()
	r, nodes := newClusterRig(t)
	if warnings := r.st.Warnings(t.Context()); len(warnings) > 0 { // it learns the other nodes
		t.Log(warnings)
	}
	key := r.st.fenceKey(r.p)
	master, _ := redistest.Owner(nodes, key)
	var replica *redistest.Server
	for i := range 3 {
		if nodes[i] == master {
			replica = nodes[i+3]
		}
	}
	r.sell(3)
	replica.CatchUp(master) // else it may lack the fence
	master.Kill()
	r.awaitRefusal()
	r.refuses(replica, stock.OtherIdentity)
	if r.begin() {
		t.Error("taken for intact")
	}
	r.sell(1)
	master.StartElsewhere()
	master.AwaitInfo("replication", "role:slave")
	master.AwaitInfo("replication", "master_link_status:up")
	for _, n := range nodes {
		n.AwaitCluster("cluster_state:ok")
	}
	r.surelyReady() // a first replica may have changed the identity
	r.sell(1)
	master.CatchUp(replica)
	replica.Kill()
	r.awaitRefusal()
	r.refuses(master, stock.OtherIdentity)
	r.begin()
	r.sell(1)
}

// awaitRefusal waits until a call is refused by a fence: the heir of a master that died has been found.
func (r *rig) awaitRefusal() {
	r.Helper()
	r.must(r.surely(func(ctx context.Context) error {
		_, err := r.st.State(ctx, r.p)
		return err
	}))
}

// surelyReady begins a later epoch unless the present one is ready.
func (r *rig) surelyReady() {
	r.Helper()
	var st stock.State
	r.must(r.surely(func(ctx context.Context) (err error) {
		st, err = r.st.State(ctx, r.p)
		return err
	}))
	if !st.Ready {
		r.begin()
	}
}

func TestMoved(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"MOVED 3999 127.0.0.1:6381":   "127.0.0.1:6381",
		"MOVED 3999 redis-1.shop:637": "redis-1.shop:637",
		"MOVED 3999 :6381":            "10.0.0.1:6381",
		"MOVED 3999 ?:6381":           "10.0.0.1:6381",
		"MOVED 3999 ::1:6381":         "[::1]:6381",
		"MOVED 3999 [::1]:6381":       "[::1]:6381",
		"ASK 3999 127.0.0.1:6381":     "",
		"MOVED 3999 nowhere":          "",
		"ERR MOVED":                   "",
	} {
		if got := moved(replyError(text), "10.0.0.1:6379"); got != want {
			t.Errorf("%q is moved to %q, want %q", text, got, want)
		}
	}
}

// replyError is an error that a server answered.
type replyError string

func (e replyError) Error() string { return string(e) }
func (e replyError) RedisError()   {}
