package main

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"time"

	"sluice/engine"
	"sluice/gateway"
	"sluice/persist"
)

// metrics writes everything in the Prometheus text format: the promised names first, then every number of every stage as
// sluice_<stage>_<number>, then the Go runtime's. Every stage is read once, so that its sums hold within one answer.
func (s *Server) metrics(w io.Writer) {
	m := &exposition{w: w, typed: map[string]bool{}}
	m.gauge(fmt.Sprintf("sluice_build_info{version=%q,commit=%q,go=%q}", version, commit(), runtime.Version()), 1)
	stages := map[string]any{}
	for name, snapshot := range s.stages() {
		stages[name] = snapshot()
	}
	m.promised(stages)
	_, config := s.configState()
	m.gauge("sluice_config_generation", float64(config.Generation))
	m.counter("sluice_config_reloads_refused_total", int64(config.Failures))
	secrets := s.vault.status()
	m.gauge("sluice_secrets_generation", float64(secrets.Generation))
	m.counter("sluice_secrets_refused_total", int64(secrets.Failures))
	for name, seconds := range s.vault.lifetimes(time.Now()) {
		m.gauge(fmt.Sprintf("sluice_certificate_seconds{listener=%q}", name), seconds)
	}
	m.gauge("sluice_ready", flag(len(s.missing()) == 0))
	present := s.present()
	if e := s.running(); e != nil {
		m.partitions(e.Ready())
	}
	ps := s.config.Engine.Partitions
	for _, p := range slices.Sorted(maps.Keys(present.Backlog)) {
		m.gauge(fmt.Sprintf("sluice_partition_backlog_messages{kind=%q,partition=\"%d\"}", ps.Kind(p), p), float64(present.Backlog[p]))
	}
	m.present(present)
	for _, stage := range slices.Sorted(maps.Keys(stages)) {
		m.stage("sluice_"+stage+"_", reflect.ValueOf(stages[stage]))
	}
	m.gauge("process_resident_memory_bytes", float64(residentBytes()))
	m.gauge("process_start_time_seconds", float64(s.began.UnixMilli())/1000)
	m.runtime()
}

// help says in the exposition what the metrics are whose names are promised.
var help = map[string]string{
	"sluice_orders_accepted_total":        "Orders answered 202 or 201: reserved, and in the queue in time.",
	"sluice_orders_stored_total":          "Accepted orders whose rows are committed.",
	"sluice_orders_rejected_total":        "Orders rejected after acceptance. More than 0 by guard is an alarm; cut is an upper bound.",
	"sluice_requests_refused_total":       "Requests refused, by the code of the problem document.",
	"sluice_ready":                        "1 if this process can do all of its work; /readyz names what is missing.",
	"sluice_config_generation":            "Number of the configuration in force: 1 at the start.",
	"sluice_config_reloads_refused_total": "Configurations that were wrong; the last good one stayed.",
	"sluice_secrets_generation":           "1 at the start, one more whenever secrets or certificates have changed.",
	"sluice_secrets_refused_total":        "Files of secrets or certificates that were wrong; the last good ones stayed.",
	"sluice_certificate_seconds":          "How long the certificate of a listener is still valid.",
	"sluice_queue_lag_seconds":            "Age of the oldest message that is not stored, by kind.",
	"sluice_partition_open":               "1 if the partition sells, 0 if it recovers.",
	"sluice_partition_waiting":            "Requests that wait for their batch.",
	"sluice_partition_queue_age_seconds":  "Age of the oldest message that is not stored.",
	"sluice_partition_backlog_messages":   "Messages in the queue that are not stored.",
	"sluice_parked_orders":                "Accepted orders that wait on a home shard because their user shard is down.",
	"sluice_poison_orders":                "Accepted orders that their user shard refuses: a person must look.",
	"sluice_dead_letters":                 "Damaged messages kept for a person, at most 100 are counted.",
	"sluice_disk_free_bytes":              "Free bytes of the disk under data_dir.",
	"sluice_disk_free_min_bytes":          "disk.free_bytes_min: below it new orders are turned away.",
	"sluice_lease_seconds":                "How long the lease of the node number still lasts; at 0 no order id can be given.",
}

// promised writes what comes from the stages' snapshots and has a name of its own.
func (m *exposition) promised(stages map[string]any) {
	if st, ok := stages["engine"].(engine.Stats); ok {
		m.counter("sluice_orders_accepted_total", st.Verdicts["placed"])
	}
	if st, ok := stages["gateway"].(gateway.Stats); ok {
		m.counters("sluice_requests_refused_total", "reason", st.Refused)
	}
	if st, ok := stages["persist"].(persist.Stats); ok {
		m.counter("sluice_orders_stored_total", st.Stored)
		m.counters("sluice_orders_rejected_total", "by", map[string]int64{"cut": st.RejectedCut, "guard": st.RejectedGuard,
			"operator": st.RejectedOperator})
	}
}

// partitions writes the state of every partition of this process.
func (m *exposition) partitions(list []engine.PartitionState) {
	lag := map[string]time.Duration{}
	for i := range list {
		kind := list[i].Kind.String()
		lag[kind] = max(lag[kind], list[i].QueueAge)
	}
	for _, kind := range slices.Sorted(maps.Keys(lag)) {
		m.gauge(fmt.Sprintf("sluice_queue_lag_seconds{kind=%q}", kind), lag[kind].Seconds())
	}
	each := func(name string, value func(*engine.PartitionState) float64) {
		for i := range list {
			p := &list[i]
			m.gauge(fmt.Sprintf("sluice_partition_%s{kind=%q,partition=\"%d\"}", name, p.Kind, p.Partition), value(p))
		}
	}
	each("open", func(p *engine.PartitionState) float64 { return flag(p.State == "open") })
	each("waiting", func(p *engine.PartitionState) float64 { return float64(p.Waiting) })
	each("queue_age_seconds", func(p *engine.PartitionState) float64 { return p.QueueAge.Seconds() })
	each("epoch", func(p *engine.PartitionState) float64 { return float64(p.Epoch) })
}

// present writes what waits for a person or for room. What could not be read is left out.
func (m *exposition) present(now *Present) {
	known := func(name string, n int64) {
		if n >= 0 {
			m.gauge(name, float64(n))
		}
	}
	known("sluice_parked_orders", now.Parked)
	known("sluice_poison_orders", now.Poison)
	known("sluice_dead_letters", now.DeadLetters)
	known("sluice_disk_free_bytes", now.DiskFree)
	m.gauge("sluice_disk_free_min_bytes", float64(now.DiskFreeMin))
	m.gauge("sluice_lease_seconds", now.Lease.Seconds())
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
