package redisleader

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// client connects to the Redis of the tests; in CI there is one.
func client(t *testing.T) *redis.Client {
	t.Helper()
	url := os.Getenv("SLUICE_TEST_REDIS")
	switch {
	case url == "" && os.Getenv("SLUICE_CI") == "1":
		t.Fatal("SLUICE_TEST_REDIS is not set, and in CI nothing is skipped")
	case url == "":
		t.Skip("SLUICE_TEST_REDIS is not set")
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal("SLUICE_TEST_REDIS is no Redis URL")
	}
	return redis.NewClient(o)
}

// long is a time to live that no test sees the end of.
const long = time.Minute

// two are two processes of one deployment.
func two(t *testing.T) (a, b *Leader, raw *redis.Client) {
	t.Helper()
	name := "test-" + rand.Text()
	a, b, raw = New(client(t), name), New(client(t), name), client(t)
	t.Cleanup(func() { _, _, _ = a.Close(), b.Close(), raw.Close() })
	return a, b, raw
}

func wantLead(t *testing.T, l *Leader, job string, want bool) {
	t.Helper()
	// A call that a busy machine makes too long says yes: it is asked again where that would be wrong.
	for end := time.Now().Add(10 * time.Second); l.Leads(t.Context(), job, long) != want; time.Sleep(time.Millisecond) {
		if want || time.Now().After(end) {
			t.Fatalf("leads %s: %t, want %t", job, !want, want)
		}
	}
}

func TestOneLeads(t *testing.T) {
	t.Parallel()
	a, b, _ := two(t)
	wantLead(t, a, "x", true)
	wantLead(t, b, "x", false)
	wantLead(t, b, "y", true) // another job
	wantLead(t, a, "x", true) // renewed
	b.Leave(t.Context(), "x") // it is not its own
	wantLead(t, b, "x", false)
	a.Leave(t.Context(), "x")
	wantLead(t, b, "x", true)
	wantLead(t, a, "x", false)
}

// A holder that died, or sleeps, keeps others from the job until its lock has run out; then it has lost it.
func TestDeadHolder(t *testing.T) {
	t.Parallel()
	a, b, _ := two(t)
	a.Leads(t.Context(), "x", 500*time.Millisecond)
	for end := time.Now().Add(10 * time.Second); !b.Leads(t.Context(), "x", long); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the lock of who died does not run out")
		}
	}
	wantLead(t, a, "x", false)
}

// What Redis forgets, the next one gets.
func TestForgottenLock(t *testing.T) {
	t.Parallel()
	a, b, raw := two(t)
	wantLead(t, a, "x", true)
	if err := raw.Del(t.Context(), a.name+":lead:x").Err(); err != nil {
		t.Fatal(err)
	}
	wantLead(t, b, "x", true)
	wantLead(t, a, "x", false)
}

// Work goes on without Redis: one that refuses, and one that does not answer.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for _, addr := range []string{silent.Addr().String(), closed.Addr().String()} {
		l := New(redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true}), "test")
		began := time.Now()
		if !l.Leads(context.Background(), "x", long) {
			t.Errorf("%s: nobody can lead, and the job is not done", addr)
		}
		l.Leave(context.Background(), "x")
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%s: the job waited %s for a lock", addr, took)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
