// Package audit is the judge: it reads the stores, the running server's fast stock and what clients saw, and says rule
// by rule whether the promises of docs/design.md, section 4 were kept. It shares no code with what it judges except the
// vocabulary: its SQL is its own, its connections only read, and files are opened without the server's lock.
//
// It judges a system at rest: nothing in the queue, nothing on its way to fast stock. The rule "at rest" says whether
// that was so; on a system that is stuck, other rules may report what would have healed by itself. On one that sells all the
// time that Run may wait, the rules that need one moment are not checked, and the audit is incomplete. Each shard is read in
// one consistent snapshot.
//
// Goroutines of Run: one per shard, ended when it returns. Memory: about 100 bytes per stored order, 100 per limited
// holding, and what the history takes.
package audit
