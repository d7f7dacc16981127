package store

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/engine/order"
)

func openBench(b *testing.B, d Dialect) *Store {
	b.Helper()
	o := Options{Dialect: d, Partitions: testPartitions, Deadline: time.Second,
		Shards: []string{filepath.Join(b.TempDir(), fmt.Sprintf("shard-%d.db", rand.Uint64()))}}
	if d == MySQL {
		needMySQL(b)
		o.Shards = []string{testDatabase(b)}
	}
	s, err := Open(context.Background(), o)
	noError(b, err)
	return s
}

var benchIDs atomic.Uint64

// benchRows is a flush: random users, keys of their own, 200 bytes of details.
func benchRows(n int) []Row {
	rows := make([]Row, n)
	records := make([]order.Record, n)
	details := bytes.Repeat([]byte("d"), 200)
	start := order.MilliOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	for i := range rows {
		id, user := benchIDs.Add(1), order.UserID(rand.Uint64()>>1)
		records[i] = order.Record{ID: order.MakeID(start+order.Milli(id/8), 0, order.VirtualShard(user), uint8(id%8)), User: user, Shop: 7,
			Fingerprint: rand.Uint64(), Currency: "CNY", Key: fmt.Sprintf("%016x", rand.Uint64()), Group: "f12345", Details: details,
			Items: []order.Item{{Line: order.Line{Offer: 12345, Quantity: 1}, UnitPrice: 19900, PriceVersion: 1, SKU: "SKU-12345"}}}
		rows[i] = Row{Record: &records[i], Batch: order.BatchID(records[i-i%64].ID), Epoch: 1763853600000, Partition: 4, Status: order.AwaitingPayment}
	}
	return rows
}

// BenchmarkRecord records flushes of 2,000 orders into a table that has 400,000. Beside the time it reports the CPU time
// of this process: other load on the machine is not in it, nor is a MySQL server.
func BenchmarkRecord(b *testing.B) {
	for _, d := range []Dialect{SQLite, MySQL} {
		b.Run(string(d), func(b *testing.B) { benchmarkRecord(b, d) })
	}
}

func benchmarkRecord(b *testing.B, d Dialect) {
	const n = 2000
	s := openBench(b, d)
	record := func(rows []Row) {
		_, err := s.Record(context.Background(), 0, rows, RecordOptions{Kind: order.Flash, Unpaid: time.Hour})
		noError(b, err)
	}
	for range 400_000 / n {
		record(benchRows(n))
	}
	var used time.Duration
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		rows := benchRows(n)
		b.StartTimer()
		before := processTime()
		record(rows)
		used += processTime() - before
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/order")
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*n), "cpu-ns/order")
	noError(b, s.Close())
}

func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
