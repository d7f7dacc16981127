package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/engine/queue"
	"sluice/engine/queue/queuetest"
	"sluice/internal/redistest"
)

// TestFaults breaks every part of a deployment under load, one after the other and each several times: the program, Redis,
// a database server, the queue. After each fault the auditor judges the stores, fast stock and everything that any buyer
// ever saw, and a line says what the buyers saw. SLUICE_SOAK says how often; SLUICE_FAULTS is a part of the names of those
// that are wanted.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	t.Parallel()
	times := faultTimes()
	u := newUpheaval(t, "all")
	u.start(u.posts...)
	u.fill()
	for _, f := range []struct {
		name   string
		strike func() time.Time
	}{
		{"kill -9 of the program", u.killProgram},
		{"kill -9 of Redis", u.killRedis},
		{"kill -9 of Redis, its file cut short", u.cutRedis},
		{"Redis stopped for 3 s", u.pauseRedis},
		{"failover to a replica that has missed orders", u.failOver},
		{"kill -9 of a database server", u.killShard},
		{"a database server stopped for 20 s", u.pauseShard},
		{"SIGTERM while a database server is stopped", u.endWhilePaused},
	} {
		if wanted(f.name) {
			for range times {
				u.suffer(f.name, f.strike)
			}
		}
	}
	if wanted("oversleep") {
		var late *lateQueue
		stop := u.serveHere(func(q queue.Queue) queue.Queue { late = newLateQueue(q); return late })
		for range times {
			u.oversleptRebuild(late)
		}
		for _, parked := range []bool{false, true} {
			for range times {
				u.oversleptLoss(late, parked)
			}
		}
		stop()
	}
	if wanted("chaos") {
		for range times {
			u.chaos()
		}
	}
	t.Logf("all faults:\n%s", table(u.report))
}

// faultTimes is how often each fault happens.
func faultTimes() int {
	if n, err := strconv.Atoi(os.Getenv("SLUICE_SOAK")); err == nil {
		return n
	}
	return 2
}

// wanted tells whether a fault is to happen.
func wanted(name string) bool { return strings.Contains(name, os.Getenv("SLUICE_FAULTS")) }

// chaos is a queue that loses, doubles and repeats messages, as it may; in the middle of it everything is rebuilt.
func (u *upheaval) chaos() {
	var chaos *queuetest.Chaos
	stop := u.serveHere(func(q queue.Queue) queue.Queue {
		chaos = queuetest.NewChaos(q, queuetest.Stormy(u.rand.Uint64()))
		return chaos
	})
	u.suffer("chaos in the queue", func() time.Time {
		broken := time.Now()
		u.awaitOrders(500)
		u.shop.must(202, "POST", u.shop.ops+"/ops/rebuild", u.shop.secrets.OpsToken, "")
		u.awaitOrders(500)
		chaos.Calm()
		return broken
	})
	faults := chaos.Faults()
	for _, name := range strings.Fields("FailBefore FailAfter PublishTwice Duplicate DuplicateLater Replay") {
		if faults[name] == 0 {
			u.t.Errorf("no %s happened: %v", name, faults)
		}
	}
	stop()
}

func (u *upheaval) killProgram() time.Time {
	u.end(u.posts[0], syscall.SIGKILL)
	broken := time.Now()
	u.start(u.posts...)
	return broken
}

func (u *upheaval) killRedis() time.Time {
	u.redis.Kill()
	broken := time.Now()
	u.redis.Start()
	return broken
}

// pauseRedis is longer than D. What was asked of it meanwhile is done when nobody waits for it any more.
func (u *upheaval) pauseRedis() time.Time {
	u.redis.Pause()
	broken := time.Now()
	for time.Since(broken) < 3*time.Second {
		time.Sleep(100 * time.Millisecond)
	}
	u.redis.Resume()
	return broken
}

// cutRedis is what a power loss leaves: the end of the append-only file is gone.
func (u *upheaval) cutRedis() time.Time {
	u.t.Helper()
	u.redis.Kill()
	broken := time.Now()
	files, err := filepath.Glob(filepath.Join(u.redis.Dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		u.t.Fatalf("append-only files %v, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err == nil {
		err = os.Truncate(files[0], u.rand.Int64N(info.Size()))
	}
	if err != nil {
		u.t.Fatal(err)
	}
	u.redis.Start()
	return broken
}

// failOver puts a replica into the place of Redis that has missed orders which buyers were promised. The replica hangs on
// a cable of the test's, which is cut while the master goes on selling: that is allowed as long as the replica's last
// acknowledgement is younger than min-replicas-max-lag.
func (u *upheaval) failOver() time.Time {
	u.t.Helper()
	master := u.redis
	link := newCable(u.t, "127.0.0.1:0", master.Addr)
	host, port, _ := strings.Cut(link.addr(), ":")
	replica := master.Replica("replicaof " + host + " " + port)
	master.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	u.awaitSales(time.Now()) // the identity of a master changes when its first replica comes
	link.cut.Store(true)
	u.awaitOrders(100)
	sold, has := offset(u.t, master, "master_repl_offset"), offset(u.t, replica, "slave_repl_offset")
	if sold <= has {
		u.t.Fatalf("the replica has %d bytes of the master's %d: it has missed nothing, and the test shows nothing", has, sold)
	}
	master.Kill()
	broken := time.Now()
	link.close()
	replica.Do("REPLICAOF", "NO", "ONE")
	if u.front == nil {
		u.front = newCable(u.t, master.Addr, replica.Addr)
	} else {
		u.front.lead(replica.Addr)
	}
	u.redis = replica
	u.t.Logf("the replica has missed %d of %d bytes", sold-has, sold)
	return broken
}

func offset(t *testing.T, s *redistest.Server, field string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s.Info("replication", field), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (u *upheaval) killShard() time.Time {
	s := u.shards[u.rand.IntN(len(u.shards))]
	s.Kill()
	broken := time.Now()
	u.awaitOrders(200) // without it
	s.Start()
	return broken
}

func (u *upheaval) pauseShard() time.Time {
	s := u.shards[u.rand.IntN(len(u.shards))]
	s.Pause()
	broken := time.Now()
	for time.Since(broken) < 20*time.Second {
		time.Sleep(100 * time.Millisecond)
	}
	s.Resume()
	return broken
}

// endWhilePaused ends the program in good order while a database server does not answer.
func (u *upheaval) endWhilePaused() time.Time {
	u.t.Helper()
	s := u.shards[u.rand.IntN(len(u.shards))]
	s.Pause()
	broken := time.Now()
	u.awaitOrders(100)
	u.end(u.posts[0], syscall.SIGTERM)
	s.Resume()
	u.start(u.posts...)
	return broken
}
