// Package engine takes requests and makes accepted orders of them: it gathers a batch, reserves it in fast stock,
// publishes it to the queue and answers. It is also where fast stock is kept true: rebuild, relay, stock log, drift.
//
// # One partition
//
// A partition is open under one epoch (a session) or it is not. Closed partitions let requests wait until their
// deadline. The states and what moves them:
//
//	start ----------------------+
//	                            v
//	+-- adopt (fence open) <- recover -> rebuild: begin, shut, relay or wait D, barrier, count, load
//	|                           ^           |
//	v                           |           v
//	open -- NotReady, newer epoch in `part`, wanted >= epoch, fence shut by another engine --> recover
//
// Several engines may keep the same partition. Those that lose a rebuild wait for its owner and adopt what it opens, or
// begin anew when its claim has run out.
//
// Rebuilding is the only way that stock comes into fast stock; start and crash are the same code.
//
// # One batch, and where the process may die
//
//	gather      nothing happened; the client's connection breaks
//	reserve     units are taken, the outbox holds the batch: the relay publishes it, or an intact rebuild does. If fast
//	            stock is lost with it, the count gives the units back: nobody was answered
//	publish     the batch is in the queue, the outbox entry stays: the relay publishes it again, claimed_batch ignores it
//	answer      the client does not know; the same key gets the same order
//	confirm     the outbox entry is deleted, with the next reserve or within a second
//
// A reserve that was sent and not answered is repeated with the same ids, keys and epoch; if that does not succeed
// within the deadline D, or the epoch is over, the answer is Unknown and the ids are never used again. An order is
// answered as placed only if its batch is known to be in the queue within D of the reserve call that returned it, by
// the monotonic and the wall clock.
//
// # Goroutines
//
//	sell    per partition and flight; owns batches; ends when the intake is closed and empty
//	keep    per partition; recovery, relay, heartbeats, sold-out looks, drift, stock log; ends with the engine's context
//	follow  per home shard; reads the `part` rows every 100 ms and hands them to the keepers
//	lookKeys per user shard; the look before a 409 (keylook.go); ends when its channel is closed
//	renew   during a rebuild; renews busy_until; its rebuild waits for it
//
// # Shutdown
//
// Close refuses new tickets, lets the sellers finish what waits, answers it, stops the keepers, and confirms what was
// published. It does not close stock, queue or store: who made them does.
package engine
