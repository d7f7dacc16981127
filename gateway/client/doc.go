// Package client is the Go client of the public API, for servers of the shop: gateway/openapi.yaml as calls. A test holds
// it to that file.
//
// # Retries
//
// Every call is repeated while the server says to come back (429, 503), does not know what happened (504, or a gateway in
// between says 502), or does not answer at all: after the server's Retry-After and a pause that grows and varies, until
// the context ends, or Options.Patience if it has no deadline. Orders keep their idempotency key over all repeats, and
// get a random one if they have none: however often a call is repeated, there is one order. Answers of the business (sold
// out, not open, ...) are final and are never repeated; they are a *Problem. OnRepeat is told of every repeat.
//
// A call that ends while it is open whether it had an effect gives an error that is ErrUnknown. Make it again with the
// same key, or read the order later.
//
// # Bounds
//
// Options.ConnectionsMax connections, kept and used again; a call waits for a free one. One attempt takes
// Options.Timeout at most, longer only by the wait that was asked for, and an answer has Options.AnswerMax bytes at most.
// The context's deadline is kept exactly. Its cancellation ends pauses at once, but not an attempt under way: an order
// whose answer nobody awaits would be one of unknown outcome.
//
// The package imports the standard library and fasthttp only, and starts no goroutine of its own; fasthttp has one while
// there are idle connections.
package client
