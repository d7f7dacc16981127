package ops_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/ops"
)

// live hands a program something to show: the number of the snapshot.
func live(p *ops.Program) {
	var n atomic.Int64
	p.Live = func() any { return map[string]int64{"n": n.Add(1)} }
}

// watch opens a stream of events; it ends with the test.
func (l *listener) watch() *http.Response {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), "GET", l.url+"/ops/events", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = res.Body.Close() })
	if err := contract.Check(req, res.StatusCode, res.Header, nil); err != nil && res.StatusCode == 200 {
		l.t.Error(err)
	}
	return res
}

// TestEvents: a JSON snapshot a second, at once the first, in the format of Server-Sent Events.
func TestEvents(t *testing.T) {
	t.Parallel()
	l := start(t, live)
	if status, _ := l.call("GET", "/ops/events", "", "Bearer wrong"); status != 401 {
		t.Errorf("without the token: %d", status)
	}
	began := time.Now()
	res := l.watch()
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(res.Body)
	var numbers []int64
	for len(numbers) < 3 && lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			if text := lines.Text(); text != "" && text != "event: live" {
				t.Errorf("a line of the stream: %q", text)
			}
			continue
		}
		var event struct{ N int64 }
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, event.N)
		if !lines.Scan() || lines.Text() != "" {
			t.Fatalf("an event does not end with an empty line: %q", lines.Text())
		}
	}
	if took := time.Since(began); len(numbers) != 3 || numbers[2] != 3 || took < 1500*time.Millisecond {
		t.Errorf("events %v in %v", numbers, took)
	}
}

// TestWatchersAreBounded: one console too many is told so, and has its place once another has gone.
func TestWatchersAreBounded(t *testing.T) {
	t.Parallel()
	l := start(t, live)
	var open []*http.Response
	for range 16 {
		open = append(open, l.watch())
	}
	if status, body := l.ask("GET", "/ops/events", ""); status != 503 || !strings.Contains(body, `"code":"overloaded"`) {
		t.Fatalf("one too many: %d %s", status, body)
	}
	_ = open[0].Body.Close()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(20 * time.Millisecond) {
		if l.watch().StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a console that has gone stays taken")
		}
	}
}

// TestCloseEndsStreams: who watches does not keep the server from stopping.
func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	l := start(t, live)
	for range 3 {
		if res := l.watch(); res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	began := time.Now()
	if err := l.server.Close(ctx); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("closed after %v: %v", time.Since(began), err)
	}
}

// TestConsolePage: the page needs no token, holds none, and may ask nobody but this listener.
func TestConsolePage(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	res, err := http.Get(l.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if policy := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy: %s", policy)
	}
	status, body := l.call("GET", "/", "", "")
	if status != 200 || !strings.HasPrefix(body, "<!doctype html>") || strings.Contains(body, token) || strings.Contains(body, "{{") {
		t.Errorf("%d %s", status, body)
	}
	for _, address := range []string{"https://", "src=", "@import", "url("} {
		if strings.Contains(body, address) {
			t.Errorf("the page has %s: it must need nothing else", address)
		}
	}
	if status, _ := l.call("GET", "/console.js", "", ""); status != 401 {
		t.Errorf("another path: %d", status)
	}
}
