package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// BatchLine is the order of one buyer in a batch. Wait is not looked at.
type BatchLine struct {
	UserID string
	OrderRequest
}

// BatchResult is what became of a line: an order, or an error as Place would give it.
type BatchResult struct {
	Placed *Placed
	Err    error
}

// PlaceBatch places orders of many buyers in one request, with the service token: at most 1,000 lines and 1 MiB. It sets
// the keys that are empty. Lines that the server could not serve, or not surely, are sent again with their keys, as a
// single order is. The results are index-aligned with the lines. The error is not nil if the request as a whole came to
// nothing at the last; then lines without an answer have it too.
func (c *Client) PlaceBatch(ctx context.Context, lines []BatchLine) ([]BatchResult, error) {
	b := &batch{c: c, lines: make([][]byte, len(lines)), results: make([]BatchResult, len(lines)), open: make([]bool, len(lines))}
	for i := range lines {
		l := &lines[i]
		if l.Key == "" {
			l.Key = newKey()
		}
		body, err := json.Marshal(struct {
			UserID string `json:"user_id"`
			Key    string `json:"idempotency_key"`
			*OrderRequest
		}{l.UserID, l.Key, &l.OrderRequest})
		if err != nil {
			return nil, fmt.Errorf("client: line %d: %w", i+1, err)
		}
		b.lines[i] = append(body, '\n')
		b.left = append(b.left, i)
	}
	if len(lines) == 0 {
		return b.results, nil
	}
	return b.results, b.finish(c.persist(ctx, false, b.attempt))
}

// finish gives the lines that are left what the last attempt came to, and says what the request as a whole came to.
func (b *batch) finish(err error) error {
	var some *unserved
	if errors.As(err, &some) {
		err = nil // every line has its answer
	}
	unknown := false
	for _, i := range b.left {
		r := &b.results[i]
		if r.Placed != nil {
			continue
		}
		if err != nil {
			r.Err = err
		}
		b.settle(i)
		unknown = unknown || b.open[i]
	}
	if err != nil && unknown {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

// batch is a call of PlaceBatch.
type batch struct {
	c       *Client
	lines   [][]byte
	results []BatchResult
	left    []int  // lines to be sent (again)
	open    []bool // lines that may have had an effect
}

// unserved says that lines are left which may be served later. It is worth another attempt, as the worst of them is.
type unserved struct{ *Problem }

func (u *unserved) Unwrap() error { return u.Problem }

// attempt sends the lines that are left.
func (b *batch) attempt(ctx context.Context) error {
	var body []byte
	for _, i := range b.left {
		body = append(body, b.lines[i]...)
	}
	a, err := b.c.attempt(ctx, &query{method: "POST", path: "/v1/orders/batch", body: body, contentType: "application/x-ndjson", nobody: true})
	if err == nil {
		err = b.read(a.body)
	}
	var some *unserved
	if !errors.As(err, &some) && leavesOpen(err) {
		for _, i := range b.left {
			b.open[i] = true
		}
	}
	return err
}

// read takes the answers to the lines that are left.
func (b *batch) read(body []byte) error {
	var left []int
	var worst *Problem
	for _, i := range b.left {
		var text []byte
		text, body, _ = bytes.Cut(body, []byte("\n"))
		var line struct {
			Status   int             `json:"status"`
			Replayed bool            `json:"replayed"`
			Order    *Order          `json:"order"`
			Problem  json.RawMessage `json:"problem"`
		}
		if err := json.Unmarshal(text, &line); err != nil || line.Order == nil && line.Problem == nil {
			return &broken{err: fmt.Errorf("line %d of a batch has no proper answer", i+1)}
		}
		if line.Order != nil {
			b.results[i], b.open[i] = BatchResult{Placed: &Placed{Order: *line.Order, Replayed: line.Replayed}}, false
			continue
		}
		if b.results[i].Placed != nil {
			continue // told by an answer that was damaged further on
		}
		p := problemOf(line.Status, "", line.Problem)
		b.results[i].Err, b.open[i] = p, b.open[i] && !settles(p) || leavesOpen(p)
		if !helps(p) {
			b.settle(i)
			continue
		}
		left = append(left, i)
		if worst == nil || p.RetryAfter > worst.RetryAfter {
			worst = p
		}
	}
	b.left = left
	if worst != nil {
		return &unserved{worst}
	}
	return nil
}

// settle makes a line's error say so if an attempt of it may have had an effect.
func (b *batch) settle(i int) {
	if b.open[i] {
		b.results[i].Err = fmt.Errorf("%w: %w", ErrUnknown, b.results[i].Err)
	}
}
