//go:build race

package sqlitequeue_test

func init() { small = 10_000 }
