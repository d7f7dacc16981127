package bench

import (
	"bytes"
	"compress/gzip"
	"math"
	"runtime/pprof"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
)

// message appends fields of a message: a number or bytes.
type message []byte

func (m message) number(field protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), v)
}

func (m message) bytes(field protowire.Number, b []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), b)
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestStagesOf divides a profile of four stacks: the innermost stage wins over those that called it.
func TestStagesOf(t *testing.T) {
	names := []string{"", "syscall.Write", "sluice/engine/stock/redisstock.(*Stock).Reserve", "sluice/engine.(*flight).run",
		"github.com/valyala/fasthttp.(*Server).serveConn", "sluice/engine/order.Hash"}
	var m message
	for i, name := range names {
		m = m.bytes(6, []byte(name))
		if i > 0 { // function i is called names[i] and is at location 10+i
			m = m.bytes(5, message{}.number(1, uint64(i)).number(2, uint64(i)))
			m = m.bytes(4, message{}.number(1, uint64(10+i)).bytes(4, message{}.number(1, uint64(i))))
		}
	}
	for _, s := range []struct {
		stack []byte
		ns    uint64
	}{{[]byte{11, 12, 13}, 40}, {[]byte{13}, 30}, {[]byte{11, 14}, 20}, {[]byte{15}, 10}} {
		m = m.bytes(2, message{}.bytes(1, s.stack).bytes(2, []byte{1, byte(s.ns)}))
	}
	got, err := stagesOf(zipped(t, m), 5)
	want := []Stage{{"fast stock", 2}, {"engine", 1.5}, {"http, sockets", 1}, {otherStage, 0.5}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if _, err := stagesOf(zipped(t, m[:len(m)-1]), 5); err == nil {
		t.Error("half a profile is no profile")
	}
	if _, err := stagesOf(zipped(t, nil), 5); err == nil {
		t.Error("a profile without samples says nothing")
	}
}

// TestStagesOfARealProfile reads what this Go writes.
func TestStagesOfARealProfile(t *testing.T) {
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		t.Fatal(err)
	}
	for begun, x := ownCPU(), 0.0; ownCPU() < begun+0.3; {
		for range 1_000_000 {
			x = math.Sqrt(x + 1)
		}
	}
	pprof.StopCPUProfile()
	got, err := stagesOf(profile.Bytes(), 7)
	sum := 0.0
	for _, s := range got {
		sum += s.CPU
	}
	if err != nil || math.Abs(sum-7) > 1e-9 {
		t.Errorf("%v: %v adds up to %f", err, got, sum)
	}
}
