// Package stocktest is the conformance suite of package stock: what every driver must do, in success and in failure. It
// also holds Rules, the contract as a plain program that Compare holds drivers against, and Flaky, a stock that fails
// as a plan says, for the tests of those who call fast stock.
//
// A driver joins with a Harness and one test:
//
//	func TestStock(t *testing.T) { stocktest.Run(t, harness) }
//
// What a driver cannot do it declares by leaving a field nil; tests that need it are then skipped by name, never
// silently. Racing tests start goroutines and wait for them; Flaky starts one per Late call and waits for them in Close.
package stocktest

import (
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// Harness makes a driver testable.
type Harness struct {
	// Open gives a new, empty data set to one test and removes it when the test ends.
	Open func(t testing.TB) *Data
	// Requests is the number of requests that the comparison with Rules makes; 0 means 200,000.
	Requests int
	// Seed of that comparison, to see a failure again; 0 means a new one every time. It is logged.
	Seed uint64
}

// Data is one data set.
type Data struct {
	// Partitions of the data set: at least two.
	Partitions order.Partitions
	// Client gives another client of the same data. A driver whose clients cannot be told apart gives the same one. The
	// harness closes clients when the test ends; one may be closed before.
	Client func() stock.Stock
	// Now is the clock that the driver decides by. Tests allow it to run on between calls.
	Now func() time.Time
	// Advance moves that clock forward. nil: it cannot be moved.
	Advance func(d time.Duration)
	// Lose takes something of a partition away. nil: nothing can be lost at will.
	Lose func(p order.Partition, what Loss)
}

// Loss names something that a data set can lose.
type Loss string

// The losses: everything, the fence alone, the identity (nothing is lost, but the fence belongs to another data set now),
// or one of the hashes that hold the state in Redis.
const (
	LoseAll      Loss = "all"
	LoseFence    Loss = "fence"
	LoseIdentity Loss = "identity"
	LoseLeft     Loss = "left"
	LoseOffers   Loss = "offers"
	LoseBuyers   Loss = "buyers"
	LoseIdem     Loss = "idem"
	LoseOutbox   Loss = "outbox"
)

// Losses lists every loss.
func Losses() []Loss {
	return []Loss{LoseAll, LoseFence, LoseIdentity, LoseLeft, LoseOffers, LoseBuyers, LoseIdem, LoseOutbox}
}

// suite is every test by name. Each gets a data set of its own.
var suite = []struct {
	name string
	test func(w *world)
}{
	{"Accept", testAccept},
	{"Precedence", testPrecedence},
	{"RefusalTakesNothing", testRefusalTakesNothing},
	{"LastUnit", testLastUnit},
	{"CartsAreWhole", testCarts},
	{"RepeatedLines", testRepeatedLines},
	{"LimitWithinCall", testLimitWithinCall},
	{"SameKey", testSameKey},
	{"SameKeyInOneCall", testSameKeyInOneCall},
	{"RefusalForgetsKey", testRefusalForgetsKey},
	{"WindowMoves", testWindowMoves},
	{"WideIDs", testWideIDs},
	{"Holdings", testHoldings},
	{"PartitionsApart", testPartitionsApart},
	{"CallerKeepsItsSlices", testCallerKeepsItsSlices},
	{"RaceForUnits", testRaceForUnits},
	{"RaceForLimit", testRaceForLimit},
	{"RaceOfCarts", testRaceOfCarts},
	{"RaceOfKey", testRaceOfKey},
	{"Outboxed", testOutboxed},
	{"ConfirmRides", testConfirmRides},
	{"Entries", testEntries},
	{"ApplyChanges", testApplyChanges},
	{"ApplyByNumber", testApplyByNumber},
	{"ApplyInOrder", testApplyInOrder},
	{"ApplyMissingOffer", testApplyMissingOffer},
	{"FenceOfSellers", testFenceOfSellers},
	{"FenceOfRebuilds", testFenceOfRebuilds},
	{"LossOfParts", testLossOfParts},
	{"MissingOffer", testMissingOffer},
	{"CancelledContext", testCancelledContext},
	{"Closed", testClosed},
	{"ShutIntact", testShutIntact},
	{"ShutGivesUp", testShutGivesUp},
	{"ShutStopsSelling", testShutStopsSelling},
	{"LoadPages", testLoadPages},
	{"IntactLoadKeeps", testIntactLoadKeeps},
	{"LostLoadDrops", testLostLoadDrops},
	{"LossDuringRebuild", testLossDuringRebuild},
	{"TwoRebuilds", testTwoRebuilds},
	{"RaceOfRebuilds", testRaceOfRebuilds},
	{"KeysRollOver", testKeysRollOver},
	{"KeysSkipPeriods", testKeysSkipPeriods},
	{"Bounds", testBounds},
	{"OutOfBounds", testOutOfBounds},
}

// Run holds a driver to the whole suite and compares it with Rules.
func Run(t *testing.T, h Harness) {
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) { c.test(newWorld(t, h)) })
	}
	t.Run("Sequences", func(t *testing.T) { compareSequences(t, h) })
	t.Run("Compare", func(t *testing.T) {
		n := h.Requests
		if n == 0 {
			n = 200_000
		}
		Compare(t, h, n)
	})
}
