package redisstock

import (
	"testing"

	"sluice/engine/stock/stocktest"
)

func TestStock(t *testing.T)            { stocktest.Run(t, harness(single)) }
func TestStockWithReplica(t *testing.T) { stocktest.Run(t, harness(withReplica)) }
func TestStockOnCluster(t *testing.T)   { stocktest.Run(t, harness(cluster)) }
