package redisstock

import (
	"testing"

	"sluice/engine/stock/stocktest"
)

// The suite on every deployment. The comparison with the rules is at its length on one server; what a replica or a
// cluster adds is not in the decisions.
func TestStock(t *testing.T)            { runSuite(t, single, 1_000_000) }
func TestStockWithReplica(t *testing.T) { runSuite(t, withReplica, 100_000) }
func TestStockOnCluster(t *testing.T)   { runSuite(t, cluster, 100_000) }

func runSuite(t *testing.T, d deployment, requests int) {
	t.Parallel()
	h := harness(d)
	if h.Requests = requests; testing.Short() {
		h.Requests = 20_000
	}
	stocktest.Run(t, h)
}
