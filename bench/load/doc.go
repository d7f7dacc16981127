// Package load is the load generator of bench: it sends requests that were built before over plain connections and
// notes, for each, when it was meant to be sent, when it was sent, when it was answered and how.
//
// It shares the machine with the server it measures, so it is made cheap: one goroutine per connection, the bytes of a
// request written as they lie in memory, the answer parsed by hand, one 24-byte result stored per request, everything
// else (histograms, histories) computed after the run.
//
// Goroutines of one Run: one per connection, and one watchdog that closes connections whose answer does not come. All
// have ended when Run returns. Limits: memory is the requests' (about 700 B each) and the results'.
package load
