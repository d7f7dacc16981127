package redisstock

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/engine/order"
	"sluice/engine/stock"
	"sluice/internal/redistest"
)

// benchmark is a partition that sells one offer without end, on a Redis of its own: with its real clock, without
// persistence, of which fast stock has no use, and with as many records of today and of yesterday as sales leave behind.
type benchmark struct {
	b      *testing.B
	server *redistest.Server
	ds     *dataset
	st     *Stock
	call   stock.ReserveCall
	next   uint64
}

const recordsBefore = 200_000

func newBenchmark(b *testing.B, size int, limit uint32) *benchmark {
	server := redistest.Start(b, "appendonly no", "maxmemory 0")
	o := onServer(server.Addr, server.Password)
	o.Partitions = order.Partitions{Normal: 1, Flash: 1}
	o.CallTimeout, o.DialTimeout = 10*time.Second, 10*time.Second
	ds := datasetOf(b, o)
	ds.sc = newScripts(nil)
	bm := &benchmark{b: b, server: server, ds: ds, st: ds.client().(*Stock), call: stock.ReserveCall{Epoch: 1}}
	ds.shutAndLoad(bm.st, &stock.LoadPage{Offers: []stock.LoadOffer{{Offer: 1, Left: 1 << 40, Limit: limit}}, Last: true, Lost: true})
	record := make([]byte, 300)
	requests := func(n int) (list []stock.Request) {
		for range n {
			list = append(list, stock.Request{Record: record, Lines: []order.Line{{Offer: 1, Quantity: 1}}})
		}
		return list
	}
	bm.call.Requests = requests(order.BatchOrdersMax)
	for bm.next < recordsBefore {
		bm.reserve()
	}
	bm.yesterday()
	for bm.next < 2*recordsBefore {
		bm.reserve()
	}
	bm.call.Requests = requests(size)
	return bm
}

// yesterday makes the records of today those of yesterday, which are looked at too.
func (bm *benchmark) yesterday() {
	text, _ := bm.server.Do("HGET", bm.ds.key(0, "fence"), "period").(string)
	period, err := strconv.Atoi(text)
	bm.ds.must(err)
	today := bm.ds.key(0, "idem:"+text)
	bm.server.Do("RENAME", today, bm.ds.key(0, "idem:"+strconv.Itoa(period-1)))
	bm.server.Do("HSET", today, sentinel, 1)
}

// shutAndLoad begins epoch 1 of partition 0.
func (ds *dataset) shutAndLoad(st stock.Stock, page *stock.LoadPage) {
	ds.t.Helper()
	_, ok, err := st.Shut(context.Background(), 0, 1)
	ds.must(err)
	if !ok {
		ds.t.Fatal("epoch 1 is not the first")
	}
	ds.must(st.Load(context.Background(), 0, 1, page))
}

// fill makes the next call: new users with a new key each; the batch before is confirmed.
func (bm *benchmark) fill() {
	for i := range bm.call.Requests {
		r := &bm.call.Requests[i]
		bm.next++
		r.Order, r.User, r.Key = order.ID(bm.next), order.UserID(bm.next*7919), order.SplitMix64(bm.next)
	}
}

func (bm *benchmark) reserve() {
	bm.fill()
	res, err := bm.st.Reserve(context.Background(), &bm.call)
	bm.ds.must(err)
	if res.Batch == 0 {
		bm.b.Fatal("nothing was accepted")
	}
	bm.call.Confirmed = append(bm.call.Confirmed[:0], res.Batch)
}

// cpu is the CPU time in seconds that the server has used.
func (bm *benchmark) cpu() float64 {
	info, err := bm.ds.raw.Info(context.Background(), "cpu").Result()
	bm.ds.must(err)
	sum := 0.0
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			f, err := strconv.ParseFloat(value, 64)
			bm.ds.must(err)
			sum += f
		}
	}
	return sum
}

// report is what calls of the benchmark's size cost.
func (bm *benchmark) report(b *testing.B, before float64, calls int) {
	n := float64(calls * len(bm.call.Requests))
	b.ReportMetric((bm.cpu()-before)*1e6/n, "redis-us/reservation")
	b.ReportMetric(n/b.Elapsed().Seconds(), "reservations/s")
}

// BenchmarkReserve is one iteration per reservation, in calls of so many that are all accepted, each with its record of
// idempotency and 300 bytes of outbox; the batch before is confirmed on the way. "driver" is this package with two
// calls in flight; "lua" is the same bytes of the same calls, built before, on two bare connections to the same server.
func BenchmarkReserve(b *testing.B) {
	for _, size := range []int{1, 32, 128, 256, 1000} {
		for _, limit := range []uint32{0, 1} {
			b.Run(fmt.Sprintf("%d/limit=%d", size, limit), func(b *testing.B) {
				bm := newBenchmark(b, size, limit)
				b.Run("driver", bm.driver)
				b.Run("lua", bm.lua)
			})
		}
	}
}

func (bm *benchmark) driver(b *testing.B) {
	other := *bm
	other.call.Requests, other.call.Confirmed, other.next = slices.Clone(bm.call.Requests), nil, bm.next+1<<40
	bm.reserve() // connections and script
	calls := max(1, b.N/len(bm.call.Requests)/2)
	before := bm.cpu()
	b.ResetTimer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range calls {
			other.reserve()
		}
	}()
	for range calls {
		bm.reserve()
	}
	<-done
	b.StopTimer()
	bm.report(b, before, 2*calls)
	bm.next = other.next
}

func (bm *benchmark) lua(b *testing.B) {
	var wires [2][][]byte
	calls := max(1, b.N/len(bm.call.Requests)/2)
	for w := range wires {
		for range calls {
			bm.fill()
			a := &reserveArgs{places: map[order.OfferID]int{}}
			bm.ds.must(a.build(&bm.call))
			wires[w] = append(wires[w], bm.wire(a.args))
			bm.call.Confirmed = []order.BatchID{order.BatchID(bm.call.Requests[0].Order)}
		}
	}
	before := bm.cpu()
	b.ResetTimer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		bm.send(wires[1])
	}()
	bm.send(wires[0])
	<-done
	b.StopTimer()
	bm.report(b, before, 2*calls)
}

// wire is a call of reserve.lua as it is sent.
func (bm *benchmark) wire(args []any) []byte {
	list := append([]any{"EVALSHA", bm.ds.sc.reserve.sha, "1", bm.st.fenceKey(0)}, args...)
	out := fmt.Appendf(nil, "*%d\r\n", len(list))
	for _, a := range list {
		out = fmt.Appendf(out, "$%d\r\n%s\r\n", len(fmt.Sprintf("%s", a)), a)
	}
	return out
}

// send writes calls one after the other and waits for each answer's last byte.
func (bm *benchmark) send(calls [][]byte) {
	c, err := net.Dial("tcp", bm.ds.opts.Addrs[0])
	bm.ds.must(err)
	defer func() { _ = c.Close() }()
	r := bufio.NewReaderSize(c, 1<<16)
	_, err = fmt.Fprintf(c, "AUTH %s\r\n", bm.server.Password)
	bm.ds.must(err)
	bm.skip(r)
	for _, call := range calls {
		_, err := c.Write(call)
		bm.ds.must(err)
		bm.skip(r)
	}
}

// skip reads one answer.
func (bm *benchmark) skip(r *bufio.Reader) {
	line, err := r.ReadString('\n')
	bm.ds.must(err)
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '-':
		bm.b.Error(line)
	case '*':
		for range n {
			bm.skip(r)
		}
	case '$':
		_, err := r.Discard(n + 2)
		bm.ds.must(err)
	}
}
