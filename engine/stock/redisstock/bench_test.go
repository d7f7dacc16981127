package redisstock

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"sluice/engine/order"
	"sluice/engine/stock"
)

// benchmark is a partition that sells one offer without end, on a real Redis with its real clock.
type benchmark struct {
	b    *testing.B
	ds   *dataset
	st   *Stock
	call stock.ReserveCall
	next uint64
}

func newBenchmark(b *testing.B, size int, limit uint32) *benchmark {
	ds := newDataset(b, single)
	ds.sc = newScripts(nil)
	bm := &benchmark{b: b, ds: ds, st: ds.client().(*Stock)}
	ds.shutAndLoad(bm.st, &stock.LoadPage{Offers: []stock.LoadOffer{{Offer: 1, Left: 1 << 40, Limit: limit}}, Last: true, Lost: true})
	bm.call = stock.ReserveCall{Epoch: 1, Requests: make([]stock.Request, size)}
	record := make([]byte, 300)
	for i := range bm.call.Requests {
		bm.call.Requests[i] = stock.Request{Record: record, Lines: []order.Line{{Offer: 1, Quantity: 1}}}
	}
	return bm
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

func (bm *benchmark) report(before float64, n int) {
	bm.b.ReportMetric((bm.cpu()-before)*1e6/float64(n), "redis-us/reservation")
	bm.b.ReportMetric(float64(n)/bm.b.Elapsed().Seconds(), "reservations/s")
}

// BenchmarkReserve is one iteration per reservation, in calls of so many that are all accepted, each with its record of
// idempotency and 300 bytes of outbox; the batch before is confirmed on the way. "driver" is this package with two
// calls in flight; "lua" is the same bytes of the same calls, built before, on two bare connections.
func BenchmarkReserve(b *testing.B) {
	for _, size := range []int{1, 32, 128, 256, 1000} {
		for _, limit := range []uint32{0, 1} {
			name := fmt.Sprintf("%d/limit=%d", size, limit)
			b.Run("driver/"+name, func(b *testing.B) { benchDriver(b, size, limit) })
			b.Run("lua/"+name, func(b *testing.B) { benchLua(b, size, limit) })
		}
	}
}

func benchDriver(b *testing.B, size int, limit uint32) {
	bm := newBenchmark(b, size, limit)
	other := &benchmark{b: b, ds: bm.ds, st: bm.st, call: bm.call, next: 1 << 40}
	other.call.Requests = append([]stock.Request(nil), bm.call.Requests...)
	bm.reserve() // connections and script
	before := bm.cpu()
	b.ResetTimer()
	done := make(chan struct{})
	calls := max(1, b.N/size/2)
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
	bm.report(before, 2*calls*size)
}

func benchLua(b *testing.B, size int, limit uint32) {
	bm := newBenchmark(b, size, limit)
	bm.reserve()
	var wires [2][][]byte
	calls := max(1, b.N/size/2)
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
	bm.report(before, 2*calls*size)
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
	_, err = fmt.Fprintf(c, "AUTH %s\r\n", bm.ds.opts.Password)
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
