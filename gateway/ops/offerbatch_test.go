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
