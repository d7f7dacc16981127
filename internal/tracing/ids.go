package tracing

import (
	"context"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// idsKey is where Write tells ids the first span of a trace: the SDK has no other way.
type idsKey struct{}

// ids gives the first span of a trace the ids that Write has chosen, and every other one a random id.
type ids struct{}

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	first, ok := ctx.Value(idsKey{}).(trace.SpanContext)
	if !ok {
		panic("BUG: a trace begins without a batch")
	}
	return first.TraceID(), first.SpanID()
}

func (ids) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for !id.IsValid() {
		r := rand.Uint64()
		for i := range id {
			id[i] = byte(r >> (8 * i))
		}
	}
	return id
}
