package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collected is an OTLP/HTTP receiver in memory.
type collected struct {
	mu    sync.Mutex
	spans []*otlp.Span
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var in collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(b, &in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range in.ResourceSpans {
		for _, scope := range from.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func attribute(s *otlp.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

const traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestTraces: one trace per batch, from its reserve to its record, that points to the request that came with it.
func TestTraces(t *testing.T) {
	t.Parallel()
	var c collected
	receiver := httptest.NewServer(&c)
	defer receiver.Close()
	s, stop := open(t, t.TempDir(), "trace.endpoint="+receiver.URL, "trace.sample_ratio=1")
	offer := s.offer("normal", 10, 0)
	placed := s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(offer, 1), "traceparent", traced)
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(2), line(offer, 1))
	batch := s.must(200, "GET", s.ops+"/ops/orders/"+placed.field("id"), s.secrets.OpsToken, "").field("batch_id")
	stop() // sends what waits
	spans := map[string]*otlp.Span{}
	for _, span := range c.spans {
		if attribute(span, "sluice.batch_id") == batch {
			spans[span.Name] = span
		}
	}
	place, store := spans["place a batch"], spans["store a batch"]
	if place == nil || store == nil || string(place.TraceId) != string(store.TraceId) || string(store.ParentSpanId) != string(place.SpanId) || len(place.ParentSpanId) > 0 {
		t.Fatalf("the spans of batch %s: %v\n%v", batch, place, store)
	}
	if len(place.Links) != 1 || hex.EncodeToString(place.Links[0].TraceId) != traced[3:35] || hex.EncodeToString(place.Links[0].SpanId) != traced[36:52] {
		t.Errorf("the batch points to %v, not to the request", place.Links)
	}
	steps := map[string]int{}
	for _, span := range c.spans {
		if span.EndTimeUnixNano < span.StartTimeUnixNano {
			t.Errorf("%s ends before it begins", span.Name)
		}
		switch string(span.ParentSpanId) {
		case string(place.SpanId), string(store.SpanId):
			steps[span.Name]++
		}
	}
	if got := fmt.Sprint(steps); got != "map[claim:1 publish:1 record:1 reserve:1 store a batch:1]" {
		t.Errorf("the steps are %s", got)
	}
}

// TestSampledRequest: with a ratio of 0 a batch is traced if one of its requests came sampled, and no other one.
func TestSampledRequest(t *testing.T) {
	t.Parallel()
	var c collected
	receiver := httptest.NewServer(&c)
	defer receiver.Close()
	s, stop := open(t, t.TempDir(), "trace.endpoint="+receiver.URL, "trace.sample_ratio=0")
	offer := s.offer("flash", 10, 0)
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(offer, 1))
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(2), line(offer, 1), "traceparent", traced[:53]+"00")
	s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(3), line(offer, 1), "traceparent", traced)
	stop()
	if len(c.spans) != 3 { // place, reserve, publish
		t.Errorf("%d spans: %v", len(c.spans), c.spans)
	}
}

// TestTracesGoNowhere: an endpoint that is away, or hangs, keeps neither orders nor the stop from going on.
func TestTracesGoNowhere(t *testing.T) {
	t.Parallel()
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hangs.Close()
	defer close(release)
	for _, url := range []string{away.URL, hangs.URL} {
		s, stop := open(t, t.TempDir(), "trace.endpoint="+url, "trace.sample_ratio=1")
		s.must(201, "POST", s.gateway+"/v1/orders?wait=5", s.token(1), line(s.offer("normal", 10, 0), 1))
		began := time.Now()
		if stop(); time.Since(began) > 10*time.Second {
			t.Errorf("the stop took %v", time.Since(began))
		}
	}
}
