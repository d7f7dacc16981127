// Package tracing sends OpenTelemetry traces: one trace per batch, never one per order. Its id is made of the batch's, so
// that the process that places a batch and the one that stores it write the same trace and agree about which batches are
// traced, without a word between them. Spans are written after the fact, from moments that were noted anyway; a nil
// *Tracer is tracing that is off.
//
// # Goroutines, limits
//
// One goroutine of the SDK sends what is written, every 5 s. 2,048 spans wait at most; more are dropped.
package tracing

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options say where traces go, and how many.
type Options struct {
	Endpoint    string  // of OTLP/HTTP, such as http://127.0.0.1:4318; empty: off
	SampleRatio float64 // of batches that are traced without being asked for, 0 to 1
}

// Validate reports every option out of its bounds, joined; nil if there is none.
func (o *Options) Validate() error {
	var errs []error
	if u, err := url.Parse(o.Endpoint); o.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		errs = append(errs, fmt.Errorf("trace.endpoint must be an address such as http://127.0.0.1:4318, not %q", o.Endpoint))
	}
	if !(o.SampleRatio >= 0 && o.SampleRatio <= 1) {
		errs = append(errs, errors.New("trace.sample_ratio must be 0 to 1"))
	}
	return errors.Join(errs...)
}

// Tracer writes the traces of batches. Its methods are safe for concurrent use, and for nil.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	ratio    float64
	log      *slog.Logger
}

// Open returns a tracer, or nil if there is no endpoint. An endpoint that does not answer is no error: what cannot be
// sent is dropped, and log says so. The OTEL_EXPORTER_OTLP_HEADERS variable holds headers to send, such as a token.
func Open(ctx context.Context, o Options, version string, log *slog.Logger) (*Tracer, error) {
	if o.Endpoint == "" {
		return nil, nil
	}
	endpoint := strings.TrimSuffix(o.Endpoint, "/")
	if u, err := url.Parse(endpoint); err == nil && u.Path == "" {
		endpoint += "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", o.Endpoint, err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces were not sent", "error", err) }))
	from := resource.NewSchemaless(attribute.String("service.name", "sluice"), attribute.String("service.version", version))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(from),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(ids{}))
	return &Tracer{provider: provider, tracer: provider.Tracer("sluice"), ratio: o.SampleRatio, log: log}, nil
}

// closeWait bounds Close: what cannot be sent must not keep a server from stopping.
const closeWait = 3 * time.Second

// Close sends what waits, until ctx ends or closeWait has passed. What was not sent is lost, and the log says so.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last traces were not sent", "error", err)
	}
}

// Picks tells whether a batch is traced without being asked for. Every process says the same of a batch.
func (t *Tracer) Picks(batch uint64) bool {
	return t != nil && float64(mix(batch)>>11) < t.ratio*(1<<53)
}

// Batch is what happened to a batch in one stage.
type Batch struct {
	Name      string // of the stage's span
	First     bool   // the trace begins with this span; otherwise it is part of the one that does
	ID        uint64
	Partition int
	Epoch     uint64
	Orders    int
	Steps     []Step   // in the order of time; the span is from the first one's beginning to the last one's end
	Err       error    // nil if all went well
	Links     []Parent // of the requests that asked to be traced
}

// Step is a part of it.
type Step struct {
	Name         string
	Began, Ended time.Time
}

// Write writes the span of a batch in one stage, with a span below it for every step.
func (t *Tracer) Write(b *Batch) {
	if t == nil || len(b.Steps) == 0 {
		return
	}
	ctx, first := context.Background(), spanContext(b.ID)
	if b.First {
		ctx = context.WithValue(ctx, idsKey{}, first)
	} else {
		ctx = trace.ContextWithRemoteSpanContext(ctx, first)
	}
	links := make([]trace.Link, len(b.Links))
	for i := range b.Links {
		links[i].SpanContext = b.Links[i].spanContext()
	}
	ctx, span := t.tracer.Start(ctx, b.Name, trace.WithTimestamp(b.Steps[0].Began), trace.WithLinks(links...), trace.WithAttributes(
		attribute.String("sluice.batch_id", strconv.FormatUint(b.ID, 10)), attribute.Int("sluice.partition", b.Partition),
		attribute.String("sluice.epoch", strconv.FormatUint(b.Epoch, 10)), attribute.Int("sluice.orders", b.Orders)))
	for _, s := range b.Steps {
		_, step := t.tracer.Start(ctx, s.Name, trace.WithTimestamp(s.Began))
		step.End(trace.WithTimestamp(s.Ended))
	}
	if b.Err != nil {
		span.SetStatus(codes.Error, b.Err.Error())
	}
	span.End(trace.WithTimestamp(b.Steps[len(b.Steps)-1].Ended))
}

// Parent is the place of a request in its client's trace. The zero value is none.
type Parent struct {
	trace [16]byte
	span  [8]byte
}

// Sampled tells whether there is a parent.
func (p *Parent) Sampled() bool { return p.trace != [16]byte{} }

func (p *Parent) spanContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: p.trace, SpanID: p.span, TraceFlags: trace.FlagsSampled, Remote: true})
}

// ParseParent reads the W3C header traceparent. It is the zero value if the header is not valid, or says that the request
// is not sampled.
func ParseParent(header []byte) (p Parent) {
	const length = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	if len(header) < length || header[2] != '-' || header[35] != '-' || header[52] != '-' || string(header[:2]) == "ff" ||
		len(header) > length && (string(header[:2]) == "00" || header[length] != '-') {
		return Parent{}
	}
	var version, flags [1]byte
	for _, part := range []struct{ to, from []byte }{{version[:], header[:2]}, {p.trace[:], header[3:35]}, {p.span[:], header[36:52]}, {flags[:], header[53:55]}} {
		if _, err := hex.Decode(part.to, part.from); err != nil {
			return Parent{}
		}
	}
	if flags[0]&1 == 0 || p.span == [8]byte{} {
		return Parent{}
	}
	return p
}

// spanContext is where the trace of a batch begins.
func spanContext(batch uint64) trace.SpanContext {
	var id [24]byte
	for i := range 3 {
		binary.BigEndian.PutUint64(id[8*i:], max(1, mix(batch+uint64(i))))
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte(id[:16]), SpanID: [8]byte(id[16:]),
		TraceFlags: trace.FlagsSampled, Remote: true})
}

// mix is splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
