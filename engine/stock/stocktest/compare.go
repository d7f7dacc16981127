package stocktest

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Compare sends one long random sequence of calls, losses and rebuilds to a driver and to Rules and demands the same
// answers, call by call, until at least n requests were decided. Every code must be at least 1 % of the outcomes, so
// that the comparison means something. The seed is logged.
func Compare(t *testing.T, h Harness, n int) {
	seed := h.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	random := rand.New(rand.NewPCG(seed, 0))
	c := newComparison(t, h.Open(t), random.IntN)
	c.requestsMax = 40
	t.Logf("seed %d; the harness can lose data: %v, move the clock: %v", seed, c.data.Lose != nil, c.data.Advance != nil)
	for c.requests < n {
		c.step()
	}
	c.sameContents()
	for _, code := range order.Codes() {
		if c.codes[code] < c.requests/100 {
			t.Errorf("only %d of %d outcomes are %s; want at least 1 %%", c.codes[code], c.requests, code)
		}
	}
	t.Logf("%d calls, %d of them refused; %d requests: %v", c.calls, c.refused, c.requests, c.codes)
}

// compareSequences does the same with many short sequences that shrink to the shortest one that fails.
func compareSequences(t *testing.T, h Harness) {
	rapid.Check(t, func(r *rapid.T) {
		number := func(n int) int { return rapid.IntRange(0, n-1).Draw(r, "") }
		c := newComparison(r, h.Open(t), number)
		c.requestsMax = 6
		for range 1 + number(150) {
			c.step()
		}
		c.sameContents()
	})
}

// failer is what a comparison needs of a test.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// comparison is a driver beside the rules.
type comparison struct {
	t           failer
	roll        func(n int) int // a number from 0 to n-1
	ctx         context.Context
	gone        context.Context // is done already
	data        *Data
	clients     []stock.Stock
	rules       *Rules
	base        order.Milli // windows lie whole hours from here, the clock about half an hour away from them
	parts       []comparedPart
	requestsMax int

	next     order.ID
	last     string // what is being done, for messages
	calls    int
	refused  int
	requests int
	codes    map[order.Code]int
}

// comparedPart is what the comparison knows of a partition.
type comparedPart struct {
	epoch   order.Epoch // the highest that a shut was sent for
	intact  bool        // what the shut answered
	batches []order.BatchID
	keys    []stock.KeyQuery
}

func newComparison(t failer, data *Data, roll func(int) int) *comparison {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	return &comparison{
		t: t, roll: roll, ctx: context.Background(), gone: gone, data: data,
		clients: []stock.Stock{data.Client(), data.Client()},
		rules:   NewRules(data.Partitions, data.Now),
		base:    order.MilliOf(data.Now().Add(-30 * time.Minute)),
		parts:   make([]comparedPart, min(2, data.Partitions.Count())),
		next:    1 << 61, codes: map[order.Code]int{},
	}
}

// step does one thing to both. A partition that cannot sell is mostly brought nearer to where it can.
func (c *comparison) step() {
	p := order.Partition(c.roll(len(c.parts)))
	state, _ := c.rules.State(c.ctx, p)
	if !state.Ready && c.roll(100) < 70 {
		c.bringBack(p, &state)
		return
	}
	switch d := c.roll(100); {
	case d < 66:
		c.reserve(p, &state)
	case d < 70:
		c.lookup(p, &state)
	case d < 74:
		c.holdings(p, &state)
	case d < 82:
		c.apply(p, &state)
	case d < 86:
		c.confirm(p, &state)
	case d < 90:
		c.outbox(p, &state)
	case d < 92:
		c.shut(p)
	case d < 94:
		c.load(p, &state)
	case d < 95:
		c.lose(p)
	case d < 97:
		c.advance()
	default:
		c.sameContents()
	}
}

func (c *comparison) bringBack(p order.Partition, state *stock.State) {
	if state.Fence.Epoch != 0 && !state.Fence.Open && c.roll(10) > 0 {
		c.load(p, state)
		return
	}
	c.shut(p)
}

func (c *comparison) client() stock.Stock { return c.clients[c.roll(len(c.clients))] }

// context is sometimes done before the call.
func (c *comparison) context() context.Context {
	if c.roll(100) == 0 {
		return c.gone
	}
	return c.ctx
}

// epoch is mostly the fence's.
func (c *comparison) epoch(state *stock.State) order.Epoch {
	switch c.roll(50) {
	case 0:
		return state.Fence.Epoch + 1
	case 1:
		return max(state.Fence.Epoch, 1) - 1
	}
	return state.Fence.Epoch
}

// same demands that both answered alike. It tells whether the call was executed.
func (c *comparison) same(got any, gotErr error, want any, wantErr error) bool {
	c.t.Helper()
	c.calls++
	if !c.sameError(gotErr, wantErr) {
		c.t.Fatalf("call %d, %s: the driver gives error %v, the rules say %v", c.calls, c.last, gotErr, wantErr)
	}
	if wantErr != nil {
		c.refused++
		return false
	}
	if !reflect.DeepEqual(got, want) {
		c.t.Fatalf("call %d, %s: the driver differs from the rules (-want +got):\n%s", c.calls, c.last, cmp.Diff(want, got))
	}
	return true
}

// sameError compares errors: the same reason and fence, or both not executed. An unknown outcome is never right here.
func (c *comparison) sameError(got, want error) bool {
	if got == nil || want == nil {
		return got == nil && want == nil
	}
	var a, b *stock.NotReady
	if !errors.As(got, &a) || !errors.As(want, &b) {
		return !errors.As(want, &b) && !errors.As(got, &a) && stock.NotExecuted(got)
	}
	return a.Why == b.Why && a.Partition == b.Partition && c.sameFence(a.Fence, b.Fence)
}

// sameFence allows the two clocks a second between one call and the other.
func (c *comparison) sameFence(a, b stock.Fence) bool {
	if d := a.KeysSince.At - b.KeysSince.At; d < -1000 || d > 1000 {
		return false
	}
	a.KeysSince.At = b.KeysSince.At
	return a == b
}

// sameContents compares all that can be read of every partition.
func (c *comparison) sameContents() {
	c.t.Helper()
	for i := range c.parts {
		p := order.Partition(i)
		c.last = "read all"
		want, wantErr := c.rules.State(c.ctx, p)
		got, err := c.client().State(c.ctx, p)
		if !c.sameFence(got.Fence, want.Fence) {
			c.t.Fatalf("partition %d: the driver's fence is %+v, by the rules %+v", p, got.Fence, want.Fence)
		}
		got.Fence = want.Fence
		c.same(got, err, want, wantErr)
		wantAll, wantErr := read(c.ctx, c.rules, p, want.Fence.Epoch)
		gotAll, err := read(c.ctx, c.client(), p, want.Fence.Epoch)
		c.same(gotAll, err, wantAll, wantErr)
	}
}
