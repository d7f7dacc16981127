package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ErrUnknown says that a call may have had its effect or not: nobody answered, or nobody knew. Make the same call again,
// an order with the same key, to find out.
var ErrUnknown = errors.New("client: the outcome is not known")

// broken is an attempt without an answer, or with one that is none of this API.
type broken struct {
	err    error
	unsent bool // the server has not seen it
}

func (b *broken) Error() string { return "client: no answer: " + b.err.Error() }
func (b *broken) Unwrap() error { return b.err }

// do makes the call until its answer would not change by another attempt, decodes it into into, or gives up.
func (c *Client) do(ctx context.Context, q *query, into any) (answer, error) {
	var a answer
	err := c.persist(ctx, q.method != "GET", func(ctx context.Context) (err error) {
		if a, err = c.attempt(ctx, q); err != nil {
			return err
		}
		if err := json.Unmarshal(a.body, into); err != nil {
			return &broken{err: err}
		}
		return nil
	})
	return a, err
}

// persist repeats attempt while that may help and the context lasts. changes: an attempt may have an effect.
func (c *Client) persist(ctx context.Context, changes bool, attempt func(context.Context) error) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.options.Patience)
		defer cancel()
	}
	open := false // an attempt may have had an effect that no answer has told of
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil && n == 0 {
			return fmt.Errorf("client: %w", err)
		}
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		open = open && !settles(err) || changes && leavesOpen(err)
		if helps(err) {
			gone := pause(ctx, backoff(n)+retryAfter(err))
			if gone == nil {
				if c.repeats != nil {
					c.repeats(err)
				}
				continue
			}
			err = fmt.Errorf("%w; the last attempt: %w", gone, err)
		}
		if open {
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		return err
	}
}

// helps tells whether another attempt may come to something else.
func helps(err error) bool {
	var p *Problem
	if errors.As(err, &p) {
		return p.Status == 429 || p.Status >= 502 && p.Status <= 504
	}
	var b *broken
	return errors.As(err, &b)
}

// leavesOpen tells whether an attempt that ended like this may have had its effect. Codes are the server's own word; an
// answer without one is that of something in between, which does not know.
func leavesOpen(err error) bool {
	var p *Problem
	if errors.As(err, &p) {
		return p.Code == "outcome_unknown" || p.Code == "" && p.Status >= 500
	}
	var b *broken
	return errors.As(err, &b) && !b.unsent
}

// settles tells whether an answer is also one to all attempts before it: no order of this key lives, or it is another one.
// Every other refusal speaks of its own attempt only.
func settles(err error) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code != "" && (p.Status == 409 || p.Status == 422)
}

func retryAfter(err error) time.Duration {
	var p *Problem
	if errors.As(err, &p) {
		return p.RetryAfter
	}
	return 0
}

const (
	pauseFirst = 50 * time.Millisecond
	pauseMax   = 5 * time.Second
)

// backoff is the pause behind attempt n, from 0: it doubles, and varies so that clients do not come back together.
func backoff(n int) time.Duration {
	longest := min(pauseMax, pauseFirst<<min(n, 16))
	return longest/2 + rand.N(longest/2)
}

// pause waits, or says why the context does not let it: it does not begin what it could not end.
func pause(ctx context.Context, d time.Duration) error {
	if until, ok := ctx.Deadline(); ok && time.Until(until) <= d {
		return context.DeadlineExceeded
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
