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

	"golang.org/x/sys/unix"

	"sluice/internal/histogram"
)

// exposition writes metrics in the Prometheus text format. Errors of w are nobody's: the reader has left.
type exposition struct {
	w     io.Writer
	typed map[string]bool
}

func (m *exposition) write(kind, series string, value float64) {
	name, _, _ := strings.Cut(series, "{")
	if !m.typed[name] {
		m.typed[name] = true
		if text := help[name]; text != "" {
			_, _ = fmt.Fprintf(m.w, "# HELP %s %s\n", name, text)
		}
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
		case histogram.Durations:
			m.histogram(name+"_seconds", value.Counts, 1e-6, value.Sum.Seconds())
		case histogram.Sizes:
			m.histogram(name, value.Counts, 1, float64(value.Sum))
		case time.Duration:
			m.gauge(name, value.Seconds())
		case time.Time:
			if !value.IsZero() {
				m.gauge(name+"_timestamp_seconds", float64(value.UnixMilli())/1000)
			}
		}
	}
}

// histogram writes counts[i], of whole numbers below 2^i and not below half of that, in the given unit; sum adds them up.
func (m *exposition) histogram(name string, counts []int64, unit, sum float64) {
	var below int64
	m.typed[name+"_bucket"], m.typed[name+"_count"] = true, true
	_, _ = fmt.Fprintf(m.w, "# TYPE %s histogram\n", name)
	for i, n := range counts {
		le := "+Inf"
		if below += n; i < len(counts)-1 {
			le = strconv.FormatFloat(float64(int64(1)<<i-1)*unit, 'g', 12, 64)
		}
		m.counter(fmt.Sprintf("%s_bucket{le=%q}", name, le), below)
	}
	_, _ = fmt.Fprintf(m.w, "%s_sum %s\n", name, strconv.FormatFloat(sum, 'f', -1, 64))
	m.counter(name+"_count", below)
}

// runtime writes what the Go runtime knows of itself.
func (m *exposition) runtime() {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) == nil {
		cpu := time.Duration(use.Utime.Nano() + use.Stime.Nano())
		m.write("counter", "process_cpu_seconds_total", cpu.Seconds())
	}
	m.gauge("go_goroutines", float64(runtime.NumGoroutine()))
	m.gauge("go_gomaxprocs", float64(runtime.GOMAXPROCS(0)))
	m.gauge("go_memstats_heap_inuse_bytes", float64(mem.HeapInuse))
	m.gauge("go_memstats_sys_bytes", float64(mem.Sys))
	m.counter("go_memstats_alloc_bytes_total", int64(mem.TotalAlloc))
	m.counter("go_gc_cycles_total", int64(mem.NumGC))
	m.write("counter", "go_gc_pause_seconds_total", float64(mem.PauseTotalNs)/1e9)
}
