// Package naive is the server that Sluice is compared with: what a good engineer writes in a week on the same servers. A
// request is one EVALSHA (key, limit, stock in one plain script) and one INSERT of the order on the user's MySQL shard,
// which is durable when the answer goes out. No batch, no queue, no rebuild: units that were taken for an order whose
// INSERT failed are given back by a second script, and lost if the process dies in between.
//
// What stands in front of that is Sluice's own gateway, so that sockets, token, body and the bytes of the answer cost
// both the same. It is meant to be fast: connections are pooled and kept, parameters are put into the statement by the
// driver (one round trip), the table has the fewest columns that say what an order is, and the same two indexes as
// Sluice's.
//
// It serves buyers who order, and repeat their orders; lists, cancels and payments are not there.
//
// Goroutines: those of the gateway, of go-redis and of database/sql. All have ended when Serve returns.
package naive
