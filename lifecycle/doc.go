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
// # The feed of events
//
// Every event is also for others to read (package feed). The relay of a shard gives events their numbers, hands them to the
// publisher if there is one, and then notes how far it has come. It may stop anywhere:
//
//	number   in one transaction, under the row of the counter; readers of the table have the events now
//	publish  readers of the broker have them; the next relay publishes them again, with the same numbers
//	note     the next relay goes on behind them
//
// # Goroutines
//
// Per user shard three, from Start to Close: one expires unpaid orders every Tuning.ExpireEvery, one gives back what is
// due, every Tuning.GiveBackEvery and whenever something was cancelled or expired, one relays events every
// Tuning.EventsEvery. Several processes may do the same at once: orders are locked while they expire, causes are unique,
// and so are numbers. A Lifecycle that is not started cancels, and does nothing else.
//
// # Limits
//
// One transaction expires, or gives back, at most batchMax orders; a page of the feed has feed.PageMax events. Every call
// of the store or the publisher is bounded by Tuning.CallTimeout. A give-back that failed is put off, so that a home shard
// that is down, or one bad row, holds up nothing else.
//
// # Failure
//
// What fails is logged when it begins to fail, counted, and tried again, after a pause that grows to retryMax. Close
// waits for the calls under way.
package lifecycle
