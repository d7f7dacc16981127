package ops_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/gateway/ops"
)

// answered is an answer to one line of a batch.
type answered struct {
	Line, Status int
	Offer        *ops.Offer
	Problem      *ops.Problem
}

// stream posts a body to the batch of offers while its answers are read.
func (l *listener) stream(body io.Reader) *bufio.Scanner {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), "POST", l.url+"/ops/offers/batch", body)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != 200 {
		l.t.Errorf("the batch is answered %d", res.StatusCode)
	}
	return bufio.NewScanner(res.Body)
}

func (l *listener) next(answers *bufio.Scanner) (a answered) {
	l.t.Helper()
	if !answers.Scan() {
		l.t.Fatalf("the answers ended: %v", answers.Err())
	}
	if err := json.Unmarshal(answers.Bytes(), &a); err != nil {
		l.t.Fatal(err)
	}
	return a
}

// TestBatchIsStreamed: a batch longer than a chunk is answered while it is sent, every line in its place, and the last
// lines were not even written when the first were answered.
func TestBatchIsStreamed(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	body, w := io.Pipe()
	write := func(from, to int) {
		for n := from; n <= to; n++ {
			line := good
			switch {
			case n%100 == 0:
				line = ""
			case n%100 == 1:
				line = "{}"
			}
			if _, err := fmt.Fprintln(w, line); err != nil {
				t.Error(err)
				return
			}
		}
	}
	go write(1, 1100)
	answers := l.stream(body)
	expect := func(from, to int) {
		t.Helper()
		for n := from; n <= to; n++ {
			if n%100 == 0 {
				continue
			}
			if a := l.next(answers); a.Line != n || (a.Offer != nil) != (n%100 != 1) || (a.Problem != nil) != (n%100 == 1) {
				t.Fatalf("line %d is answered %+v", n, a)
			}
		}
	}
	expect(1, 1000)
	go func() {
		write(1101, 2500)
		_ = w.Close()
	}()
	expect(1001, 2500)
	if answers.Scan() {
		t.Errorf("one answer too many: %s", answers.Text())
	}
}

// TestBatchOfHostileLines: whatever a line is, it fails alone and in its place.
func TestBatchOfHostileLines(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	bad := []string{"\x00", "\xff\xfe", "null", "[]", `"` + good, strings.Repeat("[", 10_000), `{"shop_id":` + strings.Repeat(`{"a":`, 2000), good + good, good + ",",
		strings.Replace(good, "10,", "1e400,", 1), strings.Replace(good, "10,", "99999999999999999999,", 1), strings.Replace(good, `"flash"`, `"flash\u0000"`, 1),
		strings.Replace(good, `"s"`, `"s","sku":null`, 1), strings.Replace(good, `"2026-11-11T12:00:00Z"`, `{}`, 1), strings.Replace(good, `"t"`, `"`+strings.Repeat("t", 15_000)+`"`, 1)}
	answers := l.stream(strings.NewReader(strings.Join(bad, "\r\n") + "\n\t \n" + good))
	for n := range bad {
		if a := l.next(answers); a.Line != n+1 || a.Status != 400 || a.Problem == nil || a.Offer != nil {
			t.Errorf("%.60q is answered %+v", bad[n], a)
		}
	}
	if a := l.next(answers); a.Line != len(bad)+2 || a.Status != 201 || answers.Scan() {
		t.Errorf("the good line: %+v, and then %q", a, answers.Text())
	}
}

// TestBatchThatBreaksOff: what was not answered was not created.
func TestBatchThatBreaksOff(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	for _, body := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s\n%s", 2*len(good)+2, good, good[:50]),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\n\r\n", len(good)+1, good),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\n\r\nzz\r\n", len(good)+1, good),
	} {
		c := l.dial("POST /ops/offers/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n" + body)
		if err := errors.Join(c.CloseWrite(), c.SetReadDeadline(time.Now().Add(20*time.Second))); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || !strings.Contains(string(answer), "could not be read") {
			t.Errorf("%q is answered %q, %v", body, answer, err)
		}
	}
	if log := l.log.String(); strings.Contains(log, "event=changed") {
		t.Errorf("offers of a batch that broke off were created:\n%s", log)
	}
}

// TestBatchStops: a line that is too long ends the batch, and so does an error of the store; what was answered is so.
func TestBatchStops(t *testing.T) {
	t.Parallel()
	l := start(t, nil)
	answers := l.stream(strings.NewReader(good + "\n" + strings.Repeat("x", 17<<10) + "\n" + good + "\n"))
	if a := l.next(answers); a.Status != 201 {
		t.Errorf("the line before: %+v", a)
	}
	if a := l.next(answers); a.Line != 2 || a.Status != 413 || answers.Scan() {
		t.Errorf("the long line: %+v, and then %s", a, answers.Text())
	}
	for _, body := range []string{"", "\n\n"} {
		if status, text := l.ask("POST", "/ops/offers/batch", body); status != 400 {
			t.Errorf("%q: %d %s", body, status, text)
		}
	}
	var broken *brokenOffers
	l = start(t, func(p *ops.Program) {
		broken = &brokenOffers{Offers: p.Offers}
		p.Offers = broken
	})
	answers = l.stream(strings.NewReader(strings.Repeat(good+"\n", 2500)))
	for n := 1; n <= 2000; n++ {
		if a := l.next(answers); a.Line != n || (a.Status == 500) != (n > 1000) {
			t.Fatalf("line %d is answered %+v", n, a)
		}
	}
	if answers.Scan() || !strings.Contains(l.log.String(), "the disk is gone") {
		t.Errorf("after an error of the store: %s\n%s", answers.Text(), l.log.String())
	}
	if status, text := l.ask("POST", "/ops/offers/batch", good); status != 500 {
		t.Errorf("an error before the first answer: %d %s", status, text)
	}
}

// brokenOffers creates offers once.
type brokenOffers struct {
	ops.Offers
	calls int
}

func (b *brokenOffers) CreateOffers(ctx context.Context, offers []order.Offer) ([]order.Offer, error) {
	if b.calls++; b.calls > 1 {
		return nil, errors.New("the disk is gone")
	}
	return b.Offers.CreateOffers(ctx, offers)
}
