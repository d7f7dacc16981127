// Package feed is the seam to the feed of order events for other teams (docs/design.md, sections 6 and 10). It holds the
// interface and its contract; it does no I/O. The embedded feed is the event table itself, which has no publisher:
// whoever reads it asks the ops listener. A driver carries the events to a broker besides; package feedtest holds the
// suite that both must pass.
//
// # What readers may rely on
//
// The feed has one log per user shard. Its events are numbered from 1, without gaps, in an order that is right for every
// order: `recorded` first, then its changes as they happened. They come at least once. A repeat has the same number and the
// same content, and behind it come the events that follow it, again. A reader that remembers the highest number of each
// shard, and skips what is not above it, has every event once and in order.
//
// # Who publishes
//
// Lifecycle's relay numbers the events in the store, then publishes them in ascending order, page after page, and only then
// notes how far it has come. A relay that dies in between, or two that work at once, repeat.
package feed

import (
	"bytes"
	"context"
	"fmt"

	"sluice/engine/order"
)

// PageMax bounds the events of one Publish.
const PageMax = 1000

// Publisher carries events to whoever reads the feed. Methods are safe for concurrent use; calls for one shard come one
// after another.
type Publisher interface {
	// Publish makes events of one shard, at most PageMax, which follow one another by number, durable in this order. nil
	// says that all of them are. Every error means unknown: none, some from the front, or all may be there, now or later,
	// and the caller comes again with the same ones. It may spread them over several messages. It keeps nothing of events.
	Publish(ctx context.Context, shard int, events []order.Event) error

	// Close frees what the driver holds. Calls after it fail.
	Close() error
}

// Bodies packs events into bodies of messages, in order: one event a line. None is longer than max bytes, which is at
// least order.EventBytesMax.
func Bodies(events []order.Event, max int) [][]byte {
	if max < order.EventBytesMax {
		panic(fmt.Sprintf("BUG: a body of %d bytes need not hold an event", max))
	}
	var bodies [][]byte
	var body []byte
	for i := range events {
		before := len(body)
		body = append(order.AppendEvent(body, &events[i]), '\n')
		if len(body) > max {
			bodies = append(bodies, body[:before:before])
			body = bytes.Clone(body[before:])
		}
	}
	if len(body) > 0 {
		bodies = append(bodies, body)
	}
	return bodies
}

// Events reads a body that Bodies has packed.
func Events(body []byte) (events []order.Event, err error) {
	for line := range bytes.Lines(body) {
		e, err := order.ParseEvent(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
	return events, nil
}
