// Package persist takes batches out of the queue and makes stored orders of them: claim, record, acknowledge
// (docs/design.md, section 7). The claim on the home shard is the one decision that counts.
//
// # One flush, and where the process may die
//
//	receive  nothing happened; the messages come back
//	claim    one transaction on the home shard decided every batch, by its id. The batches come back, the claim answers
//	         the same
//	record   the orders are rows on their user shards, or parked on the home shard. They come back, the rows are there
//	settle   `recorded` and `settled_at` say how far the queue is done; what comes back is older and writes nothing
//	ack      the queue forgets
//
// A flush takes what has arrived. Under load it waits up to Linger for more, at rest not at all: only here, behind the
// answer, does anything in Sluice linger.
//
// # Failures
//
// A home shard that fails or hangs holds up its own messages only: they are kept, bounded by heldBytesMax, and tried
// again. Beyond that they are left to the queue, and taken again when the shard answers. A user shard that fails or
// hangs once is down until a probe succeeds: its orders are parked. A row that the database refuses by
// itself is poison: parked with the error, live and pending until a person decides. A damaged message is buried. A
// message of an unknown version, or of an epoch that its home shard has not begun, stops its partition.
//
// # Goroutines
//
//	consume  per kind; owns its consumer and what it holds; ends with Close after its flushes
//	flush    per kind and home shard, one at a time; consume waits for it, after a second without standing still
//	sweep    per shard; records the orders parked there, probes it when it is down; ends with Close
//	writers  a bounded pool per kind; one task per user shard of a flush, awaited by it
package persist
