// Package bench puts load on a Sluice server and reports what it stored: scenarios, child processes, the machine's
// noise, the report. The generator is bench/load, for people gateway/client; the judge is bench/audit.
//
// Without a target every round starts a server of its own (`sluice serve` on free ports, in a directory of its own),
// loads it, waits until the last accepted order is committed, has it audited, stops it, and then puts the very same
// bytes from the same generator on the bare server (ServeCeiling): the share of that ceiling is a figure that survives
// a noisy machine, the figure itself does not. Rounds of all cases are interleaved, and medians are reported.
//
// Where the configuration has MySQL shards or Redis, a round has a Place there: databases and a name of its own. Compare
// sets the server beside a naive one (bench/naive) on such places, and Process says where the CPU time goes.
//
// Goroutines: those of bench/load, one per child process that waits for its end, one that polls the server's metrics
// while a round runs, one that waits for a CPU profile, one for the progress bar. All have ended when Run returns.
package bench
