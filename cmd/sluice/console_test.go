package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/engine/order"
)

// TestConsole opens the console in a browser while a small sale runs.
func TestConsole(t *testing.T) {
	if testing.Short() {
		t.Skip("the browser knows nothing of races")
	}
	b := openBrowser(t)
	s, stop := open(t, t.TempDir())
	flash, normal := s.offer("flash", 400, 1), s.offer("normal", 1_000_000, 0)

	b.size(1280, 900, "light")
	b.call("Page.navigate", map[string]any{"url": s.ops + "/"}, nil)
	b.shows("The ops token, please")
	b.picture("token")
	enter := func(token string) {
		b.eval(`document.getElementById("token").focus()`)
		b.call("Input.insertText", map[string]any{"text": token}, nil)
		for _, kind := range []string{"keyDown", "keyUp"} {
			b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}, nil)
		}
	}
	enter("not-the-token-0123456789")
	b.shows("The server does not take this token.")
	b.faultsAre("401") // the browser's own word about the answer
	enter(s.secrets.OpsToken)
	b.shows("live", "Nothing is wrong.", "On sale", "400 of 400 left", "0 normal", "configuration 1")

	end := s.sale(flash, normal)
	b.saleShows(flash)
	b.picture("wide")
	for _, c := range []struct {
		name, scheme  string
		width, height int
	}{{"phone", "light", 390, 844}, {"phone-dark", "dark", 390, 844}, {"narrow", "light", 320, 700}, {"wide-dark", "dark", 1280, 900}} {
		b.size(c.width, c.height, c.scheme)
		b.seconds(2) // drawn anew at this width
		if over := b.number("document.documentElement.scrollWidth") - float64(c.width); over > 0 {
			t.Errorf("%s: the page is %v px wider than the screen of %d", c.name, over, c.width)
		}
		b.picture(c.name)
	}
	end()

	b.eval("window.before = true; location.reload()")
	if !await(func() bool {
		text, err := b.tryEval(`String(window.before === undefined && document.getElementById("leave") !== null)`)
		return err == nil && text == "true"
	}) {
		t.Fatal("the page did not load anew")
	}
	b.shows("live") // the tab has kept the token
	b.eval(`document.getElementById("leave").click()`)
	b.shows("The ops token, please")
	b.eval(`location.hash = "token=" + ` + strconv.Quote(s.secrets.OpsToken))
	b.shows("live", "sold out")
	if url := b.eval("location.href"); strings.Contains(url, "token") {
		t.Errorf("the token stays in the address: %s", url)
	}
	for _, url := range b.asked {
		if !strings.HasPrefix(url, s.ops) && !strings.HasPrefix(url, "data:") && url != "about:blank" {
			t.Errorf("the page asked %s", url)
		}
	}
	b.faultsAre()
	began := time.Now()
	stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("an open console kept the server from stopping for %v", took)
	}
	b.shows("no connection")
	b.chartsFollow(390, 1280)
}

// chartsFollow checks that charts are as wide as their cards at these widths, though nothing comes any more.
func (b *browser) chartsFollow(widths ...int) {
	b.t.Helper()
	for _, width := range widths {
		b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 500, "deviceScaleFactor": 1, "mobile": false}, nil)
		if !await(func() bool { return b.eval(chartsFit) == "true" }) {
			b.t.Errorf("at %d px the charts are not as wide as their cards", width)
		}
	}
}

// chartsFit tells whether the lines of every chart end where it ends.
const chartsFit = `[...document.querySelectorAll("svg.chart")].every(svg =>
	Math.abs(svg.querySelector(".grid").getAttribute("x2") - svg.clientWidth) < 1)`

// TestConsoleAlarms: what is wrong stands on top in plain words, and in the title of the tab.
func TestConsoleAlarms(t *testing.T) {
	if testing.Short() {
		t.Skip("the browser knows nothing of races")
	}
	b := openBrowser(t)
	dir := t.TempDir()
	s, _ := open(t, dir, fmt.Sprint("disk.free_bytes_min=", aboveFree(t, dir)))
	b.size(390, 844, "light")
	b.call("Page.navigate", map[string]any{"url": s.ops + "/#token=" + s.secrets.OpsToken}, nil)
	b.shows("The disk is full: new orders are turned away.", "(1) Sluice")
	b.picture("alarm")
	b.faultsAre()
}

// TestHotOffers: the console gets eight offers at most, the one that sells first, and does not scan them all for each who
// watches.
func TestHotOffers(t *testing.T) {
	t.Parallel()
	c, d := config(t, t.TempDir())
	server := NewServer(c, d, nil, quiet)
	t.Cleanup(func() { _ = server.Close(context.Background()) })
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, gateway: "http://" + server.gateway.Addr(), ops: "http://" + server.ops.Addr(), secrets: server.secrets}
	first := s.offer("normal", 100, 0)
	for range 11 {
		s.offer("normal", 100, 0)
	}
	hot := func() []any { return server.live().(map[string]any)["offers"].([]any) }
	if list := hot(); len(list) != 8 || list[0].(map[string]any)["id"] == first {
		t.Errorf("at rest: %v", list)
	}
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(first, 3))
	if !await(func() bool {
		offer := hot()[0].(map[string]any)
		return offer["id"] == first && offer["left"] == int64(97)
	}) {
		t.Errorf("while it sells: %v", hot())
	}
	server.console.mu.Lock()
	server.console.at = time.Now()
	server.console.mu.Unlock()
	if a, b := server.live().(map[string]any), server.live().(map[string]any); a["at"] != b["at"] {
		t.Error("two who watch at once get two snapshots")
	}
}

// saleShows waits until the sale can be seen: rates, refusals, units that go.
func (b *browser) saleShows(flash string) {
	b.t.Helper()
	left := `Number([...document.querySelectorAll("#offers li")].find(li => li.textContent.includes("flash ` + flash + `")).querySelector(".left b").textContent)`
	first := b.number(left)
	if !await(func() bool { return b.number(left) < first }) {
		b.t.Errorf("the units left of the flash offer stay at %v", first)
	}
	for _, id := range []string{"in", "accepted", "stored", "refused"} {
		text := ""
		if !await(func() bool {
			text = b.eval("document.getElementById('" + id + "').textContent")
			return text > "0" && text != "–"
		}) {
			b.t.Errorf("%s is %q a second during a sale", id, text)
		}
	}
	b.shows("over limit", "whole answer", "orders in a batch")
	if !await(func() bool { return b.number(`document.querySelectorAll("#refusals-chart .layer").length`) > 0 }) {
		b.t.Error("no picture of the refusals")
	}
	b.shows("sold out")
	b.seconds(8) // a picture with some history
}

// seconds waits for so many events of the stream.
func (b *browser) seconds(n int) {
	for range n {
		up := b.eval("document.getElementById('facts').textContent")
		await(func() bool { return b.eval("document.getElementById('facts').textContent") != up })
	}
}

func (b *browser) number(expression string) float64 {
	b.t.Helper()
	n, err := strconv.ParseFloat(b.eval(expression), 64)
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return n
}

// faultsAre checks what went wrong on the page so far, and forgets it.
func (b *browser) faultsAre(want ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, fault := range b.faults {
		if i >= len(want) || !strings.Contains(fault, want[i]) {
			b.t.Errorf("on the page: %s", fault)
		}
	}
	b.faults = nil
}

// sale lets buyers order until end is called, which waits for them.
func (s *shop) sale(flash, normal string) (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	var buyers sync.WaitGroup
	for n := range 4 {
		buyers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				user, offer := order.UserID(1+n*1_000_000+i/2), flash // everybody tries twice
				if i%3 == 0 {
					user, offer = order.UserID(rand.Uint32()), normal
				}
				if _, err := s.try("POST", s.gateway+"/v1/orders", s.token(user), line(offer, 1), "Idempotency-Key", fmt.Sprint("k", i)); err != nil {
					s.t.Error(err)
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		})
	}
	return func() { stop(); buyers.Wait() }
}
