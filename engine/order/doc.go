// Package order is the vocabulary of Sluice: orders, offers, outcomes, ids, batches and their wire format, the life of
// an order. Every other package speaks in these words; this one imports the standard library only, does no I/O, starts
// no goroutine and keeps no state except in IDs.
//
// The words are those of docs/design.md, section 2. Amounts are integer minor units (cents, fen), times are
// milliseconds since 1970 UTC unless a name says otherwise, ids are opaque numbers that leave the process as decimal
// strings.
package order
