package redisstock

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/internal/tlsfile"
)

// Check asks the servers whether they can hold fast stock, and says in plain words why not: one that does not answer, a
// wrong password, a version before 7.0, an eviction policy that would drop stock, a cluster where one server was configured
// or the other way round, replicas without the settings that make a failover safe. Of a cluster one of the nodes that were
// named must answer; all masters that it knows and that answer are asked. It costs a few round trips.
func (s *Stock) Check(ctx context.Context) error { return errors.Join(s.inspect(ctx).faults...) }

// Warnings are what Check would let pass and a person should know all the same.
func (s *Stock) Warnings(ctx context.Context) []string { return s.inspect(ctx).warnings }

func (s *Stock) inspect(ctx context.Context) *findings {
	f := &findings{}
	s.normal.inspect(ctx, f)
	if s.flash != s.normal {
		s.flash.inspect(ctx, f)
	}
	return f
}

// findings are what an inspection found.
type findings struct {
	faults   []error
	warnings []string
}

func (f *findings) fault(addr, format string, args ...any) {
	f.faults = append(f.faults, fmt.Errorf("redis at %s: %w", addr, fmt.Errorf(format, args...)))
}

func (f *findings) warn(addr, format string, args ...any) {
	f.warnings = append(f.warnings, "redis at "+addr+": "+fmt.Sprintf(format, args...))
}

func (s *servers) inspect(ctx context.Context, f *findings) {
	if !s.options.Cluster {
		addr := s.places()[0]
		if info, err := s.info(ctx, addr); err != nil {
			f.fault(addr, "%w", err)
		} else {
			s.judge(ctx, f, &peer{addr, info})
		}
		return
	}
	none := findings{}
	for _, addr := range s.places() {
		info, err := s.info(ctx, addr)
		if err == nil {
			s.inspectCluster(ctx, f, &peer{addr, info})
			return
		}
		none.fault(addr, "%w", err)
	}
	f.faults = append(f.faults, none.faults...)
}

// inspectCluster judges the masters that one node knows, and learns all nodes: those that were named may be gone one day.
func (s *servers) inspectCluster(ctx context.Context, f *findings, from *peer) {
	if from.info["cluster_enabled"] != "1" {
		s.judge(ctx, f, from)
		return
	}
	masters, state, err := s.discover(ctx, from.addr)
	switch {
	case err != nil:
		f.fault(from.addr, "%w", s.options.explain(err))
		return
	case state != "ok":
		f.warn(from.addr, "the cluster is not whole (cluster_state:%s): some partitions cannot be sold; see CLUSTER INFO", state)
	}
	for _, addr := range masters {
		info, err := s.info(ctx, addr)
		if err != nil {
			f.warn(addr, "%v", err)
			continue
		}
		s.judge(ctx, f, &peer{addr, info})
	}
}

// peer is a server that answered INFO.
type peer struct {
	addr string
	info map[string]string
}

// info is everything that INFO says.
func (s *servers) info(ctx context.Context, addr string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.DialTimeout+s.options.CallTimeout)
	defer cancel()
	node, err := s.node(addr)
	if err != nil {
		return nil, err
	}
	text, err := node.Info(ctx).Result() // all of it: a server answers one section by name only
	if err != nil {
		return nil, s.options.explain(err)
	}
	return fields(text), nil
}

// discover reads from a node which masters there are, and whether the cluster is whole. It learns the replicas too.
func (s *servers) discover(ctx context.Context, addr string) (masters []string, state string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.DialTimeout+s.options.CallTimeout)
	defer cancel()
	node, err := s.node(addr)
	if err != nil {
		return nil, "", err
	}
	text, err := node.ClusterInfo(ctx).Result()
	if err != nil {
		return nil, "", err
	}
	shards, err := node.ClusterShards(ctx).Result()
	if err != nil {
		return nil, "", err
	}
	for _, shard := range shards {
		for _, n := range shard.Nodes {
			if len(shard.Slots) == 0 {
				continue
			}
			port := n.Port
			if s.options.TLS.Enabled && n.TLSPort != 0 {
				port = n.TLSPort
			}
			at := place(n.Endpoint, strconv.FormatInt(port, 10), addr)
			if s.remember(at); n.Role == "master" {
				masters = append(masters, at)
			}
		}
	}
	return masters, fields(text)["cluster_state"], nil
}

// judge says what is wrong with one server.
func (s *servers) judge(ctx context.Context, f *findings, p *peer) {
	major, _ := strconv.Atoi(strings.Split(p.info["redis_version"], ".")[0])
	clustered := p.info["cluster_enabled"] == "1"
	switch {
	case major < 7:
		f.fault(p.addr, "it is version %s; 7.0 or later is needed, whose scripts are refused before their first write "+
			"when memory is short", p.info["redis_version"])
		return
	case clustered && !s.options.Cluster:
		f.fault(p.addr, "it is a node of a Redis Cluster: set stock.redisstock.cluster to true")
		return
	case !clustered && s.options.Cluster:
		f.fault(p.addr, "it is no node of a Redis Cluster: set stock.redisstock.cluster to false")
		return
	case !clustered && p.info["role"] != "master":
		f.fault(p.addr, "it is a replica of %s:%s: name the master in stock.redisstock.addrs", p.info["master_host"], p.info["master_port"])
		return
	case p.info["maxmemory_policy"] != "noeviction":
		f.fault(p.addr, "its maxmemory-policy is %s, which would drop stock when memory is short: set it to noeviction",
			p.info["maxmemory_policy"])
	}
	if p.info["maxmemory"] == "0" {
		f.warn(p.addr, "it has no maxmemory: when memory is short the operating system ends it, where with maxmemory it would refuse")
	}
	if p.info["aof_enabled"] == "1" {
		f.warn(p.addr, "it writes an append-only file, of which nothing is used: after a restart fast stock is always counted anew. "+
			"appendonly no saves the writing")
	}
	s.judgeReplicas(ctx, f, p)
}

// judgeReplicas says what a failover could cost: with replicas, a master that nobody follows any more must have stopped to
// sell when another begins (docs/design.md, section 4).
func (s *servers) judgeReplicas(ctx context.Context, f *findings, p *peer) {
	if p.info["role"] != "master" || p.info["connected_slaves"] == "0" {
		return
	}
	const advice = "set min-replicas-to-write to 1, and min-replicas-max-lag to a few seconds"
	set, err := s.settings(ctx, p.addr)
	lag, lagErr := strconv.Atoi(set["min-replicas-max-lag"])
	switch {
	case err != nil || set["min-replicas-to-write"] == "" || lagErr != nil:
		f.warn(p.addr, "it has replicas and does not show its settings: %s, or a former master may go on selling after a failover", advice)
		return
	case set["min-replicas-to-write"] == "0" || lag == 0: // either 0 switches it off
		f.fault(p.addr, "it has replicas and min-replicas-to-write %s, min-replicas-max-lag %d: after a failover the former master "+
			"would go on selling; %s", set["min-replicas-to-write"], lag, advice)
		return
	}
	alone := time.Duration(lag+1) * time.Second // that a master without replicas goes on for
	if !s.options.Cluster {
		f.warn(p.addr, "it has replicas. Where Sentinel promotes them, its down-after-milliseconds may not be below %d. "+
			"Without Sentinel a replica is promoted by hand: end the former master first", alone.Milliseconds())
		return
	}
	ms, err := strconv.Atoi(set["cluster-node-timeout"])
	if timeout := time.Duration(ms) * time.Millisecond; err == nil && alone > timeout+s.options.Deadline {
		f.fault(p.addr, "its min-replicas-max-lag of %d s lets a former master sell for %v, longer than cluster-node-timeout (%v) and "+
			"engine.deadline (%v) together: lower the first or raise the second", lag, alone, timeout, s.options.Deadline)
	}
}

// settings reads what CONFIG GET shows of the settings that a failover depends on. Hosted servers may refuse.
func (s *servers) settings(ctx context.Context, addr string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.DialTimeout+s.options.CallTimeout)
	defer cancel()
	node, err := s.node(addr)
	if err != nil {
		return nil, err
	}
	set := map[string]string{}
	for _, name := range []string{"min-replicas-to-write", "min-replicas-max-lag", "cluster-node-timeout"} {
		one, err := node.ConfigGet(ctx, name).Result()
		if err != nil {
			return nil, err
		}
		set[name] = one[name]
	}
	return set, nil
}

// fields reads the answer of INFO.
func fields(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// explain says what to do about a connection that cannot be used.
func (o *Options) explain(err error) error {
	text, reply := replyOf(err)
	switch code(text) {
	case "WRONGPASS", "NOAUTH":
		return fmt.Errorf("the user name or the password is wrong: set SLUICE_REDIS_PASSWORD or secrets.redis_password_file, "+
			"and stock.redisstock.username (%w)", err)
	case "NOPERM":
		return fmt.Errorf("the user may not do what Sluice needs: grant it +@read +@write +@scripting +info +time +cluster|info "+
			"+cluster|shards on its keys (%w)", err)
	}
	if reply {
		return err
	}
	if told := tlsfile.Explain(err, tlsSection, o.TLS.Enabled); told != nil {
		return told
	}
	return fmt.Errorf("it does not answer; is it running, and is stock.redisstock.addrs right? (%w)", err)
}
