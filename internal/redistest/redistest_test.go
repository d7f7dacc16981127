package redistest

import (
	"context"
	"testing"
	"time"
)

// What was written survives every end but that of the directory; a paused server answers once it goes on.
func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Do("SET", "a", "1")
	s.Stop()
	s.Start()
	s.Do("SET", "b", "2")
	s.Kill()
	s.Start()
	if a, b := s.Do("GET", "a"), s.Do("GET", "b"); a != "1" || b != "2" {
		t.Errorf("the server has %v and %v, want 1 and 2", a, b)
	}
	s.Pause()
	c := s.Client()
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Do(ctx, "GET", "a").Err(); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	if a := s.Do("GET", "a"); a != "1" {
		t.Errorf("after its pause the server has %v, want 1", a)
	}
	r := s.Replica()
	r.await("the data", func() bool { return r.Do("GET", "a") == "1" })
}

// Every key has a master, and every master a replica.
func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := Cluster(t, 3)
	for i, n := range nodes {
		role := "master"
		if i >= 3 {
			role = "slave"
		}
		n.AwaitInfo("replication", "role:"+role)
	}
}
