// Package sqlitecopy copies several SQLite files as of one moment, while other processes write them: what the copies hold
// together is what a power cut at that moment would have left.
//
// Take holds the write lock of every file at once for as long as it takes to begin a read transaction on each: in WAL mode
// that transaction goes on to see what was committed at that moment, and nothing later, while writers go on. Copy reads
// through it by SQLite's backup calls, which use the transaction that is open on the source and would begin one of their
// own only if there were none.
//
// Writers stand still for some milliseconds. A file that is written all the time gives its lock between two
// transactions; who holds some locks and does not get the next one lets all of them go after holdMax, and tries again.
//
// While a moment is open, write-ahead logs of files that are not copied yet cannot begin anew: they grow by what is written.
//
// No goroutines. Errors of SQLite are wrapped with the path of their file.
package sqlitecopy
