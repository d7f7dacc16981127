package redisstock

import (
	"context"
	"fmt"
	"time"
)

// clockOffMax is how far a server's clock may be from this machine's: windows and idempotency periods go by it.
const clockOffMax = time.Second

// Describe says in a line each what the servers are that were named and answer, and of whose clock a person should know.
func (s *Stock) Describe(ctx context.Context) (servers, warnings []string) {
	for _, addr := range s.opts.Addrs {
		servers, warnings = s.normal.describe(ctx, addr, servers, warnings)
	}
	for _, addr := range s.opts.FlashAddrs {
		servers, warnings = s.flash.describe(ctx, addr, servers, warnings)
	}
	return servers, warnings
}

func (s *servers) describe(ctx context.Context, addr string, servers, warnings []string) ([]string, []string) {
	ctx, cancel := context.WithTimeout(ctx, s.options.DialTimeout+s.options.CallTimeout)
	defer cancel()
	node, err := s.node(addr)
	if err != nil {
		return servers, warnings
	}
	text, err := node.Info(ctx).Result()
	if err != nil {
		return servers, warnings // Check says why
	}
	before := time.Now()
	now, err := node.Time(ctx).Result()
	if err != nil {
		return servers, warnings
	}
	line := fmt.Sprintf("redis at %s: Redis %s", addr, fields(text)["redis_version"])
	if s.options.TLS.Enabled {
		line += " in TLS"
	}
	servers = append(servers, line)
	if off := clockOff(now, before, time.Now()); off != "" {
		warnings = append(warnings, fmt.Sprintf("redis at %s: its clock is %s this machine's: keep both by NTP (sales open and close by it)", addr, off))
	}
	return servers, warnings
}

// clockOff says how far a clock that was read between two moments of ours must be off; empty: not by clockOffMax.
func clockOff(now, before, after time.Time) string {
	switch early, late := before.Sub(now), now.Sub(after); {
	case early > clockOffMax:
		return fmt.Sprintf("%v behind", early.Round(time.Millisecond))
	case late > clockOffMax:
		return fmt.Sprintf("%v ahead of", late.Round(time.Millisecond))
	}
	return ""
}
