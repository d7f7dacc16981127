// Package limit says how often something may happen: GCRA limiters (the generic cell rate algorithm, a token bucket kept
// as one number), one for everything (Global) and one per key (Keyed). It is pure: no HTTP, no clock of its own, no
// goroutines. Everything is safe for concurrent use.
//
// # The algorithm
//
// Of each key one number is kept, its theoretical arrival time (TAT): the moment at which its bucket is full again. What
// comes is let through if TAT - now is at most (Burst - 1) / Rate, and moves TAT forward by 1 / Rate. A key whose TAT has
// passed is like one that was never seen: forgetting it changes nothing.
//
// # Time
//
// now is the caller's, in nanoseconds since any moment that is the same in all calls. Concurrent callers' nows may lie up
// to a second apart: who is behind gets through less, by as much, and nobody more.
//
// # Bounds
//
// A Keyed limiter keeps at most KeysMax keys, 16 bytes a slot, in 1,024 parts with a lock each. It begins with nothing and
// doubles part by part, only while the keys that are not full again need the room: at most twice KeysMax slots, so 32 bytes a
// key. When a part is at its maximum and no place near that of a new key is free, the key there whose TAT is the oldest, the
// one that is nearest to being full again, is forgotten: it gets its burst anew. Nothing is ever refused because a
// table is full.
package limit
