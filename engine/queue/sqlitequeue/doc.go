// Package sqlitequeue is the embedded driver of the queue seam: one SQLite file, one row per message. It serves one
// process, which holds the lock of the data directory; it is durable as soon as Publish returns (WAL, synchronous=FULL,
// one fsync per commit).
//
// # Publishing
//
// Group commit without a committer: whoever calls Publish while no commit runs leads. The leader commits everything that
// waits, of all partitions, in one transaction, wakes the others, and hands the lead to the first of those that came
// meanwhile. A single publisher meets no channel and no other goroutine. Waiting is first in, first out.
//
// A small message of a sale that comes within 20 ms of an ordinary one waits for the next ordinary one, for 2 ms at most, and
// goes into its commit: ordinary orders find fewer commits before them than a sale that gets little through would make. One
// large message of a sale is worth a commit of its own, and takes along what waits.
//
// # Consuming
//
// One consumer at a time serves all partitions of a kind. A second one of the same kind is idle until the first closes,
// then takes over everything that is not acknowledged. What is published while a consumer lives is handed to it from
// memory, after the commit. When a partition's share of MemoryMax is spent, its messages are dropped from memory and read
// back from the file, in order. After a start or a hand-over everything comes from the file.
//
// Acks cost no commit of their own: they are kept in memory, and the rows are deleted in small ranges by the leader's
// transaction, or by the keeper within a second, or by Close. A process that is killed may deliver again what was
// acknowledged in its last second.
//
// # The file
//
//	message(id, at, body)   id = partition << 40 | position; at in Unix milliseconds
//	part(p, acked)          the highest acknowledged position whose rows are gone: positions grow across restarts
//	dead(p, position, at, reason, body)
//	fact(name, value)       what never changes: the numbers of partitions, and the identity, a random text
//
// It shrinks again: the keeper gives back pages when much is free. The WAL is reused from its start after each
// checkpoint, which matters because a growing file makes fsync twice as slow.
//
// # Goroutines, limits, shutdown
//
// One goroutine, the keeper: checkpoints, deletions that no commit carried, incremental vacuum. It is waited for by
// Close. Everything else runs in the caller. Limits: MemoryMax for bodies that wait for a consumer, WALMax for the WAL
// (beyond it a publisher waits for a checkpoint), FreeMin for the disk. Callers of Publish bound what waits for a commit.
//
// Locks, in the order in which they may be taken: write (the writing connection), checkpoint, mu (all state in memory,
// never held across I/O).
package sqlitequeue
