// Package store is the one SQL store: offers and their stock, claims, orders, the stock log, leases of node numbers. A
// shard is one database with two sides: the home side of some partitions (offers, stock, claims, stock log) and the
// order side of some users. It runs on SQLite files and on MySQL (or MariaDB) with the same tables and the same
// transactions (docs/design.md, sections 7 to 9).
//
// # Rules
//
// Every transaction of the home side first locks its partition rows, in ascending order; no other lock can then
// deadlock. On SQLite a file has one writer: BEGIN IMMEDIATE under a turn lock in which the kinds alternate.
// Transactions run at READ COMMITTED, except the counting snapshot. What a transaction's function does is decided by
// keys and guards, so that it may run again: after a deadlock, a lock that did not come, or a COMMIT whose answer was
// lost. That is done here, in tx.go, and nowhere else.
//
// Open looks at every shard, its server and its facts before it changes any (check.go, facts.go); Check says the same to a
// person and changes nothing.
//
// A business answer is a value (a reject, ok = false, a nil order). An error means that nothing is known, except the
// sentinel errors, which say that nothing was written.
//
// # Concurrency
//
// A Store is safe for concurrent use. It runs two goroutines per SQLite file, one keeps the write-ahead log short and one
// merges the index of orders by user and key (keys.go); Close stops them, waits for them, and closes the databases. Calls
// block on the database; their context bounds them. A SQLite transaction that has begun is finished whatever the context says: it is short and local.
//
// # Limits
//
// Connections per shard: Options.Writers and Options.Readers on MySQL, one writer and Options.Readers on SQLite. Lists
// take a limit from their caller. A transaction runs at most runsMax times. The index of
// a SQLite file takes 18 MiB of memory, up to 32 MiB more for a million orders that are not merged, and as much again
// while they are merged; the file's page cache of 64 MiB comes on top. After a start the filter of 10 million orders
// takes some 10 seconds to fill: until then every key is looked up, and nothing is merged.
package store
