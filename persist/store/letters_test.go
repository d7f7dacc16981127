package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Dead letters are read page by page in order, until they are dropped; one that is buried again stays as it was.
func TestLetters(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		ctx := context.Background()
		l := newStore(t, d, 2).Letters()
		want := []queue.LetterID{{Partition: 0, Position: 7}, {Partition: 1, Position: 1}, {Partition: 1, Position: 2},
			{Partition: 1, Position: math.MaxInt64}, {Partition: 3, Position: 1 << 40}}
		body := func(id queue.LetterID) string { return strings.Repeat("\x00\xff'\\", 3) + id.String() }
		for i := range want {
			id := want[len(want)-1-i]
			for n := range 2 {
				at := queue.Delivery{Partition: id.Partition, Position: id.Position, Body: []byte(body(id))}
				noError(t, l.Bury(ctx, at, fmt.Sprintf("reason %d, \x00 and 中", n)))
			}
		}
		expect := func(want ...queue.LetterID) {
			t.Helper()
			var got []queue.LetterID
			var after queue.LetterID
			for {
				page, err := l.Letters(ctx, after, 2)
				noError(t, err)
				if len(page) == 0 {
					break
				}
				for i := range page {
					after = page[i].ID()
					got = append(got, after)
					if string(page[i].Body) != body(after) || !strings.HasPrefix(page[i].Reason, "reason 0, ") || time.Since(page[i].At).Abs() > time.Hour {
						t.Errorf("letter %s reads as %+v", after, page[i])
					}
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("letters %v, want %v", got, want)
			}
		}
		expect(want...)
		for range 2 {
			noError(t, l.Drop(ctx, want[1]))
			noError(t, l.Drop(ctx, queue.LetterID{Partition: 1, Position: math.MaxUint64}))
		}
		expect(want[0], want[2], want[3], want[4])
		if rest, err := l.Letters(ctx, queue.LetterID{Partition: 3, Position: math.MaxUint64}, 10); err != nil || len(rest) != 0 {
			t.Errorf("behind the last: %v, %v", rest, err)
		}
		noError(t, l.Bury(ctx, queue.Delivery{Partition: order.Partition(2), Position: 1}, strings.Repeat("long ", 1000)))
		if empty, err := l.Letters(ctx, want[3], 1); err != nil || len(empty) != 1 || len(empty[0].Body) != 0 {
			t.Errorf("an empty message: %v, %v", empty, err)
		}
	})
}
