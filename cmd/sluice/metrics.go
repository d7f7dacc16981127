package main

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// metrics writes everything in the Prometheus text format: the fixed names first, then every counter of every stage as
// sluice_<stage>_<counter>, then the Go runtime's.
func (s *Server) metrics(w io.Writer) {
	m := &exposition{w: w, typed: map[string]bool{}}
	s.fixedMetrics(m)
	stages := s.stages()
	for _, stage := range slices.Sorted(maps.Keys(stages)) {
		m.stage("sluice_"+stage+"_", reflect.ValueOf(stages[stage]()))
	}
	m.gauge("process_resident_memory_bytes", float64(residentBytes()))
	m.gauge("process_start_time_seconds", float64(s.began.UnixMilli())/1000)
	m.runtime()
}

// fixedMetrics writes the metrics whose names are promised.
func (s *Server) fixedMetrics(m *exposition) {
	e := s.running()
	if e != nil {
		st := e.Stats()
		m.counter("sluice_orders_accepted_total", st.Verdicts["placed"])
		lag := map[string]time.Duration{}
		for _, p := range e.Ready() {
			kind := p.Kind.String()
			lag[kind] = max(lag[kind], p.QueueAge)
		}
		for _, kind := range slices.Sorted(maps.Keys(lag)) {
			m.gauge(fmt.Sprintf("sluice_queue_lag_seconds{kind=%q}", kind), lag[kind].Seconds())
		}
		for _, p := range e.Ready() {
			m.gauge(fmt.Sprintf("sluice_partition_open{partition=\"%d\"}", p.Partition), flag(p.State == "open"))
		}
	}
	stages := s.stages()
	if stages["gateway"] != nil {
		m.counters("sluice_requests_refused_total", "reason", s.gateway.Stats().Refused)
	}
	if stages["persist"] != nil {
		st := s.persist.Stats()
		m.counter("sluice_orders_stored_total", st.Stored)
		m.counters("sluice_orders_rejected_total", "by", map[string]int64{"cut": st.RejectedCut, "guard": st.RejectedGuard,
			"operator": st.RejectedOperator})
	}
	_, config := s.configState()
	m.gauge("sluice_config_generation", float64(config.Generation))
	m.counter("sluice_config_reloads_refused_total", int64(config.Failures))
	m.gauge("sluice_ready", flag(len(s.missing()) == 0))
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// exposition writes metrics in the Prometheus text format. Errors of w are nobody's: the reader has left.
type exposition struct {
	w     io.Writer
	typed map[string]bool
}

func (m *exposition) write(kind, series string, value float64) {
	name, _, _ := strings.Cut(series, "{")
	if !m.typed[name] {
		m.typed[name] = true
		_, _ = fmt.Fprintf(m.w, "# TYPE %s %s\n", name, kind)
	}
	_, _ = fmt.Fprintf(m.w, "%s %s\n", series, strconv.FormatFloat(value, 'f', -1, 64))
}

func (m *exposition) gauge(series string, value float64) { m.write("gauge", series, value) }
func (m *exposition) counter(series string, n int64)     { m.write("counter", series, float64(max(0, n))) }

// counters writes one series per key, in the order of the keys.
func (m *exposition) counters(name, label string, values map[string]int64) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		m.counter(fmt.Sprintf("%s{%s=%q}", name, label, key), values[key])
	}
}

// gauges end the names of the numbers in the stages' snapshots that may go down; all others only grow.
var gauges = []string{"waiting", "waiters", "in_flight", "connections"}

// stage writes every number of a stage's snapshot.
func (m *exposition) stage(prefix string, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		name := prefix + keyOf(&f)
		falls := slices.ContainsFunc(gauges, func(g string) bool { return strings.HasSuffix(name, "_"+g) })
		switch value := v.Field(i).Interface().(type) {
		case int64:
			if falls {
				m.gauge(name, float64(value))
			} else {
				m.counter(name+"_total", value)
			}
		case map[string]int64:
			m.counters(name+"_total", "name", value)
		case []int64:
			m.histogram(name+"_seconds", value)
		case time.Duration:
			m.gauge(name, value.Seconds())
		case time.Time:
			if !value.IsZero() {
				m.gauge(name+"_timestamp_seconds", float64(value.UnixMilli())/1000)
			}
		}
	}
}

// histogram writes counts[i], of what took less than 2^i microseconds and not less than half of that.
func (m *exposition) histogram(name string, counts []int64) {
	var sum int64
	m.typed[name+"_bucket"], m.typed[name+"_count"] = true, true
	_, _ = fmt.Fprintf(m.w, "# TYPE %s histogram\n", name)
	for i, n := range counts {
		le := "+Inf"
		if sum += n; i < len(counts)-1 {
			le = strconv.FormatFloat(float64(int64(1)<<i)/1e6, 'f', -1, 64)
		}
		m.counter(fmt.Sprintf("%s_bucket{le=%q}", name, le), sum)
	}
	m.counter(name+"_count", sum)
}

// runtime writes what the Go runtime knows of itself.
func (m *exposition) runtime() {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	m.gauge("go_goroutines", float64(runtime.NumGoroutine()))
	m.gauge("go_gomaxprocs", float64(runtime.GOMAXPROCS(0)))
	m.gauge("go_memstats_heap_inuse_bytes", float64(mem.HeapInuse))
	m.gauge("go_memstats_sys_bytes", float64(mem.Sys))
	m.counter("go_memstats_alloc_bytes_total", int64(mem.TotalAlloc))
	m.counter("go_gc_cycles_total", int64(mem.NumGC))
	m.write("counter", "go_gc_pause_seconds_total", float64(mem.PauseTotalNs)/1e9)
}
