// Package lifecycle is what happens to a stored order: its user cancels it, its time to pay runs out, its units come
// back (docs/design.md, sections 9 and 10). One file per transition. It works on the store alone: the fast stock learns
// of units given back from the stock log.
//
// # Giving units back
//
// A transition changes the order by compare-and-set and writes an event that is due, in one transaction on the user
// shard. The mover of that shard reads what is due, gives the units back on the home shards of their partitions, and
// marks the events as handled. It may stop anywhere: what is due is read again, and the home shard leaves out causes
// that it has seen.
//
// # Goroutines
//
// Per user shard two, from Start to Close: one expires unpaid orders every Tuning.ExpireEvery, one gives back what is
// due, every Tuning.GiveBackEvery and whenever something was cancelled or expired. Several processes may do the same at
// once: orders are locked while they expire, and causes are unique.
//
// # Limits
//
// One transaction expires, or gives back, at most batchMax orders. Every call of the store is bounded by
// Tuning.CallTimeout. A give-back that failed is put off, so that a home shard that is down, or one bad row, holds up
// nothing else.
//
// # Failure
//
// What fails is logged when it begins to fail, counted, and tried again, after a pause that grows to retryMax. Close
// waits for the calls under way.
package lifecycle
