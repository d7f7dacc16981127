//go:build race

package sqlitequeue_test

// small is the number of messages of the test with many of them: the race detector makes SQLite many times slower.
const small = 10_000
