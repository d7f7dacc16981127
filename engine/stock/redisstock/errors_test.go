package redisstock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/internal/redistest"
)

// Only what a server says before a script's first statement, and what came before it was sent, proves that nothing was
// done.
func TestNotExecuted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"NOSCRIPT No matching script. Please use EVAL.":                                                  true,
		"OOM command not allowed when used memory > 'maxmemory'.":                                        true,
		"LOADING Redis is loading the dataset in memory":                                                 true,
		"READONLY You can not run script with write flag on readonly":                                    true,
		"MASTERDOWN Link with MASTER is down":                                                            true,
		"NOREPLICAS Not enough good replicas to write.":                                                  true,
		"MISCONF Redis is configured to save RDB snapshots":                                              true,
		"CLUSTERDOWN The cluster is down":                                                                true,
		"TRYAGAIN Multiple keys request during rehashing of slot":                                        true,
		"BUSY Redis is busy running a script.":                                                           true,
		"MOVED 1 127.0.0.1:1":                                                                            true,
		"ASK 1 127.0.0.1:1":                                                                              true,
		"NOAUTH Authentication required.":                                                                true,
		"ERR max number of clients reached":                                                              true,
		"ERR Script attempted to access a non local key in a cluster node script: 1, on @user_script:5.": true,
		"OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:5.":          false,
		"ERR Error running script: user_script:5: attempt to index script: 1, on @user_script:5.":        false,
		"WRONGTYPE Operation against a key script: 1, on @user_script:5.":                                false,
		"ERR unknown": false,
		"BUSYKEY Target key name already exists.":                     false,
		"UNKILLABLE Sorry the script already executed write commands": false,
	} {
		if got := notExecuted(fmt.Errorf("wrapped: %w", replyError(text))); got != want {
			t.Errorf("%q proves that nothing was done: %v, want %v", text, got, want)
		}
	}
	for _, err := range []error{context.DeadlineExceeded, context.Canceled, errors.New("EOF"), errors.New("OOM no reply")} {
		if notExecuted(err) {
			t.Errorf("%v proves nothing", err)
		}
	}
}

// The same from a real server.
func TestRefusedByServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "busy-reply-threshold 10")
	r := newRig(t, onServer(server.Addr, server.Password))
	r.begin()
	r.sell(1)
	wantNothing := func(word string) {
		t.Helper()
		before := server.Do("DEBUG", "DIGEST")
		_, err := r.st.Reserve(t.Context(), r.call())
		if !stock.NotExecuted(err) || !strings.Contains(err.Error(), word) {
			t.Errorf("%v, want %s and not executed", err, word)
		}
		if server.Do("DEBUG", "DIGEST") != before {
			t.Errorf("%s: something was written", word)
		}
	}
	server.Do("CONFIG", "SET", "maxmemory", 1)
	wantNothing("OOM")
	r.must(r.st.Confirm(t.Context(), r.p, r.e, []order.BatchID{1})) // what frees memory goes on
	server.Do("CONFIG", "SET", "maxmemory", 0)
	server.Do("CONFIG", "SET", "min-replicas-to-write", 1)
	wantNothing("NOREPLICAS")
	server.Do("CONFIG", "SET", "min-replicas-to-write", 0)

	c := server.Client()
	defer func() { _ = c.Close() }()
	ended := make(chan error, 1)
	go func() { ended <- c.Do(t.Context(), "EVAL", "while true do end", 0).Err() }()
	if err := r.await(func() error { _, err := r.st.Reserve(t.Context(), r.call()); return err }); !stock.NotExecuted(err) {
		t.Errorf("a busy server: %v, want not executed", err)
	}
	server.Do("SCRIPT", "KILL")
	<-ended
	r.sell(1)

	wrong := newRig(t, onServer(server.Addr, "wrong"))
	if _, err := wrong.st.Reserve(t.Context(), r.call()); !stock.NotExecuted(err) {
		t.Errorf("a wrong password: %v, want not executed", err)
	}
	left := fmt.Sprintf("%s:{%d}:%d:left", r.st.opts.Name, r.p, r.e)
	server.Do("DEL", left)
	server.Do("SET", left, "a")
	if _, err := r.st.Reserve(t.Context(), r.call()); err == nil || stock.NotExecuted(err) {
		t.Errorf("an error from inside a script: %v, want unknown", err)
	}
}

// await does f until it fails.
func (r *rig) await(f func() error) error {
	r.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := f(); err != nil {
			return err
		}
	}
	r.Fatal("it goes on for a minute")
	return nil
}

// TestPausedServer: a call ends with its deadline whatever the server does, and is unknown: the server does it when it
// goes on. Its connection is not used again, for the late answer is in it.
func TestPausedServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := onServer(server.Addr, server.Password)
	o.PoolSize = 1
	r := newRig(t, o)
	o = r.st.opts
	o.DialTimeout, o.CallTimeout = 10*time.Millisecond, 2*time.Second
	fast, err := Open(o)
	r.must(err)
	t.Cleanup(func() { _ = fast.Close() })
	r.begin()
	r.sell(1) // the server knows the script
	r.must(r.surely(func(ctx context.Context) error { _, err := fast.State(ctx, r.p); return err }))

	server.Pause()
	call, first := r.call(), make(chan error, 1)
	go func() {
		_, err := fast.Reserve(context.Background(), call)
		first <- err
	}()
	node, err := fast.normal.node(server.Addr)
	r.must(err)
	for node.PoolStats().IdleConns > 0 {
		time.Sleep(time.Millisecond)
	}
	_, second := fast.State(t.Context(), r.p)
	if !stock.NotExecuted(second) || !errors.Is(second, redis.ErrPoolTimeout) {
		t.Errorf("without a connection: %v, want a pool's time-out and not executed", second)
	}
	if err := <-first; err == nil || stock.NotExecuted(err) {
		t.Errorf("a call that was sent: %v, want unknown", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := r.st.State(ctx, r.p); err == nil || time.Since(began) >= r.st.opts.CallTimeout {
		t.Errorf("a call with a deadline of 50 ms ends after %v: %v", time.Since(began), err)
	}
	server.Resume()

	var res *stock.Reserved
	r.must(r.surely(func(ctx context.Context) (err error) {
		res, err = fast.Reserve(ctx, call)
		return err
	}))
	for i, out := range res.Outcomes {
		if out.Code != order.Repeated || out.Order != call.Requests[i].Order {
			t.Errorf("the repeat gives %+v, want the first call's order %d", out, call.Requests[i].Order)
		}
	}
	r.wantLeft(998, 998)
}

// Nobody listens: nothing was done, and whoever asks knows it.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRig(t, onServer(server.Addr, server.Password))
	server.Kill()
	if _, err := r.st.Reserve(t.Context(), r.call()); !stock.NotExecuted(err) {
		t.Errorf("%v, want not executed", err)
	}
	server.Start()
	r.begin()
	r.sell(1)
}

// TestAnswerLost: what was done and not answered is unknown, and nobody does it again but the caller.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	front := redistest.NewFront(t, server)
	r := newRig(t, onServer(front.Addr, server.Password))
	r.begin()
	r.sell(1)
	call := r.call()
	front.LoseAnswer()
	if _, err := r.st.Reserve(t.Context(), call); err == nil || stock.NotExecuted(err) {
		t.Errorf("%v, want unknown", err)
	}
	st, err := r.st.State(t.Context(), r.p)
	r.must(err)
	if st.Reserves != 2 {
		t.Errorf("%d reserves were executed, want 2", st.Reserves)
	}
	r.wantLeft(998, 998)
	res, err := r.st.Reserve(t.Context(), call)
	r.must(err)
	if out := res.Outcomes[0]; out.Code != order.Repeated || out.Order != call.Requests[0].Order || !out.Outboxed {
		t.Errorf("the repeat gives %+v", out)
	}
}
