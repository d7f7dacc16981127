// Package gateway is the public listener: it authenticates, reads requests, asks engine, store and lifecycle, and says
// what came of it. Every route and answer is that of docs/design.md, section 11. It decides nothing about stock.
//
// # Hot path
//
// Placing an order is token, body, engine, answer. Token and body are checked by hand-written one-pass code; what that
// code does not know goes to golang-jwt (tokens), and fuzz tests hold it equal to golang-jwt and encoding/json. Answers
// are appended to a pooled buffer. An order for an offer that is known to be sold out, without a key, is refused before
// its body is parsed.
//
// # Limits
//
// Every request asks, in this order, the limits per address and of all requests, before anything else; the limit per user
// once the user is known; the limit per offer when the order is about to go to the engine. Lines of a batch ask those of
// all requests, user and offer. A refusal is 429 with the limit's name, had no effect, and takes nothing from any limit.
//
// # Bounds
//
//	connections    Options.ConnectionsMax, and per address ConnectionsPerIPMax
//	a request      HeaderMax, BodyMax, ReadTimeout for all of it, WriteTimeout for its answer, IdleTimeout between two
//	store reads    Tuning.ReadsMax at once per user shard: a shard that hangs does not slow down the readers of another.
//	               More are 503 overloaded at once; each ends after Tuning.ReadDeadline
//	waiters        Tuning.WaitersMax requests with ?wait; more are answered without waiting
//	placing        bounded by the engine
//	limits         up to 10^7 addresses, users and 10^6 offers of 32 bytes; nothing while they are off
//	tokens         up to 262,144 that public keys have verified are remembered
//
// # Goroutines
//
//	serve          the listener; ends with Close
//	a connection   one each, made by fasthttp; Close waits for them
//	waiter hub     one per user shard that has waiters, at most; ends when the last waiter has gone
//	watchKeys      one if there is a file of public keys; looks once a second whether it has changed; ends with Close
//	watchParked    one; reads once a second whether accepted orders are parked; ends with Close
//
// # Shutdown
//
// Close takes no new connections, ends every ?wait with what is known, lets every request that was read be answered, and
// waits for its goroutines. It does not close engine, store or lifecycle, which must outlive it.
package gateway
