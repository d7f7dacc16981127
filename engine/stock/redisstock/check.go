package redisstock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Check asks the servers that were named whether they can hold fast stock, and says in plain words why not: one that does
// not answer, a wrong password, a version before 7.0, an eviction policy that would drop stock, a cluster where one server was
// configured or the other way round. Of a cluster one server that answers is enough. It costs a few round trips.
func (s *Stock) Check(ctx context.Context) error {
	err := s.normal.check(ctx)
	if s.flash != s.normal {
		err = errors.Join(err, s.flash.check(ctx))
	}
	return err
}

func (s *servers) check(ctx context.Context) error {
	var errs []error
	for _, addr := range s.seeds {
		err := s.checkOne(ctx, addr)
		if err == nil && s.options.Cluster {
			return nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("redis at %s: %w", addr, err))
		}
	}
	return errors.Join(errs...)
}

func (s *servers) checkOne(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.DialTimeout+s.options.CallTimeout)
	defer cancel()
	node, err := s.node(addr)
	if err != nil {
		return err
	}
	text, err := node.Info(ctx).Result() // all of it: a server answers one section by name only
	if err != nil {
		return explain(err)
	}
	info := fields(text)
	major, _ := strconv.Atoi(strings.Split(info["redis_version"], ".")[0])
	clustered := info["cluster_enabled"] == "1"
	switch {
	case major < 7:
		return fmt.Errorf("it is version %s; 7.0 or later is needed, whose scripts are refused before their first write "+
			"when memory is short", info["redis_version"])
	case info["maxmemory_policy"] != "noeviction":
		return fmt.Errorf("its maxmemory-policy is %s, which would drop stock when memory is short: set it to noeviction",
			info["maxmemory_policy"])
	case clustered && !s.options.Cluster:
		return errors.New("it is a node of a Redis Cluster: set stock.redisstock.cluster to true")
	case !clustered && s.options.Cluster:
		return errors.New("it is no node of a Redis Cluster: set stock.redisstock.cluster to false")
	case !clustered && info["role"] != "master":
		return fmt.Errorf("it is a replica of %s:%s: name the master in stock.redisstock.addrs", info["master_host"], info["master_port"])
	}
	return s.checkReplicas(ctx, node, info)
}

// checkReplicas says what a failover could cost: with replicas, a master that nobody follows any more must stop to sell
// before another sells (docs/design.md, section 4).
func (s *servers) checkReplicas(ctx context.Context, node *redis.Client, info map[string]string) error {
	if info["role"] != "master" || info["connected_slaves"] == "0" {
		return nil
	}
	set, err := node.ConfigGet(ctx, "min-replicas-to-write").Result()
	if err != nil {
		return nil //nolint:nilerr // hosted servers do not show their configuration; who runs them knows
	}
	if set["min-replicas-to-write"] == "0" {
		return errors.New("it has replicas and min-replicas-to-write 0: after a failover the former master would go on selling; " +
			"set it to 1, and min-replicas-max-lag to a few seconds")
	}
	return nil
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
func explain(err error) error {
	code, _, _ := strings.Cut(err.Error(), " ")
	switch {
	case slices.Contains([]string{"WRONGPASS", "NOAUTH"}, code):
		return fmt.Errorf("the user name or the password is wrong: set SLUICE_REDIS_PASSWORD or secrets.redis_password_file, "+
			"and stock.redisstock.username (%w)", err)
	case code == "NOPERM":
		return fmt.Errorf("the user may not do what Sluice needs: grant it +@read +@write +@scripting +info on its keys (%w)", err)
	case isReply(err):
		return err
	}
	return fmt.Errorf("it does not answer; is it running, and is stock.redisstock.addrs right? (%w)", err)
}
