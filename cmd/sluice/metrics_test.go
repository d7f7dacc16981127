package main

import (
	"bytes"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// families are the metrics of a running server, parsed by Prometheus' own parser.
func (s *shop) families() map[string]*dto.MetricFamily {
	s.t.Helper()
	a := s.must(200, "GET", s.ops+"/metrics", s.secrets.OpsToken, "")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(a.body))
	if err != nil {
		s.t.Fatalf("/metrics does not parse: %v\n%s", err, a.body)
	}
	return families
}

// value adds up the series of a metric; it must be there.
func value(t *testing.T, families map[string]*dto.MetricFamily, name string) (sum float64) {
	t.Helper()
	f := families[name]
	if f == nil {
		t.Fatalf("there is no metric %s", name)
	}
	for _, m := range f.Metric {
		sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

// TestMetrics: the exposition parses, the promised names are there, and in = out + refused + in flight, in every answer
// while orders come and with nothing in flight at rest.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir())
	end := s.sale(s.offer("flash", 50, 1), s.offer("normal", 1000, 0))
	balanced := func() float64 {
		f := s.families()
		in, out, flying := value(t, f, "sluice_gateway_in_total"), value(t, f, "sluice_gateway_out_total"), value(t, f, "sluice_gateway_in_flight")
		if refused := value(t, f, "sluice_requests_refused_total"); in != out+refused+flying || flying < 0 {
			t.Fatalf("in %v, out %v, refused %v, in flight %v", in, out, refused, flying)
		}
		return in
	}
	began := time.Now()
	if !await(func() bool { return balanced() >= 100 && time.Since(began) > time.Second }) {
		t.Error("too few requests to show anything")
	}
	end()
	f := s.families()
	if n := value(t, f, "sluice_gateway_in_flight"); n != 0 {
		t.Errorf("%v requests in flight at rest", n)
	}
	if in, out := value(t, f, "sluice_engine_in_total"), value(t, f, "sluice_engine_verdicts_total"); in != out {
		t.Errorf("the engine took %v tickets and answered %v", in, out)
	}
	accepted := value(t, f, "sluice_orders_accepted_total")
	if !await(func() bool { return value(t, s.families(), "sluice_orders_stored_total") == accepted }) {
		t.Errorf("%v orders accepted, %v stored", accepted, value(t, s.families(), "sluice_orders_stored_total"))
	}
	for name, least := range map[string]float64{"sluice_orders_rejected_total": 0, "sluice_queue_lag_seconds": 0, "sluice_config_generation": 1,
		"sluice_ready": 1, "sluice_partition_open": 8, "sluice_partition_waiting": 0, "sluice_partition_queue_age_seconds": 0,
		"sluice_partition_backlog_messages": 0, "sluice_partition_epoch": 1, "sluice_parked_orders": 0, "sluice_poison_orders": 0,
		"sluice_dead_letters": 0, "sluice_disk_free_bytes": 1, "sluice_disk_free_min_bytes": 1, "sluice_lease_seconds": 1,
		"sluice_gateway_placing_seconds": 50, "sluice_gateway_limited_total": 0, "sluice_engine_rebuilds_total": 8,
		"sluice_engine_batch_orders": 1, "sluice_engine_reserve_seconds": 1, "sluice_engine_publish_seconds": 1,
		"sluice_persist_flush_orders": 1, "sluice_persist_flush_seconds": 1, "process_cpu_seconds_total": 0.001, "sluice_build_info": 1,
		"process_resident_memory_bytes": 1, "go_goroutines": 1} {
		if got := value(t, f, name); got < least {
			t.Errorf("%s is %v, at least %v expected", name, got, least)
		}
	}
	batches := f["sluice_engine_batch_orders"].Metric[0].GetHistogram()
	if got := batches.GetSampleSum(); got != accepted {
		t.Errorf("the batches have %v orders, %v were accepted", got, accepted)
	}
}
