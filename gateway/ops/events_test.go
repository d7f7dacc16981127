package ops_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
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

// dial sends bytes to the listener over a connection of its own, which reads little at a time.
func (l *listener) dial(text string) *net.TCPConn {
	l.t.Helper()
	c, err := net.Dial("tcp", l.server.Addr())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	tcp := c.(*net.TCPConn)
	if err := tcp.SetReadBuffer(4 << 10); err != nil {
		l.t.Fatal(err)
	}
	if _, err := io.WriteString(tcp, text); err != nil {
		l.t.Fatal(err)
	}
	return tcp
}

// TestRudeWatchers: who leaves at once, or opens a console and reads nothing, takes no place for long.
func TestRudeWatchers(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: a reader is cut off after ten seconds")
	}
	t.Parallel()
	var first atomic.Bool
	l := start(t, func(p *ops.Program) {
		p.Live = func() any {
			if first.CompareAndSwap(false, true) {
				return strings.Repeat("x", 32<<20) // more than lies between the two
			}
			return 1
		}
	})
	const ask = "GET /ops/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n"
	l.dial(ask + "\r\n") // never reads
	for deadline := time.Now().Add(10 * time.Second); !first.Load() && time.Now().Before(deadline); <-time.After(time.Millisecond) {
	}
	for n := range 100 {
		c := l.dial(ask + []string{"\r\n", "Content-Length: 5\r\n\r\n", "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", ""}[n%4])
		if err := errors.Join(c.SetLinger(0), c.Close()); err != nil { // without a goodbye
			t.Fatal(err)
		}
	}
	open := 0
	for deadline := time.Now().Add(time.Minute); open < 16; <-time.After(20 * time.Millisecond) {
		if res := l.watch(); res.StatusCode == 200 {
			open++
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of 16 places can be had", open)
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
