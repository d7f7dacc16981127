package rocketqueue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFrame(t *testing.T) {
	t.Parallel()
	want := &command{Code: 11, Flag: 1, Language: "GO", Opaque: -7, Version: remoteVersion, Remark: `say "so"`,
		Fields: map[string]string{"topic": "a", "x": "中"}, Body: []byte{0, 1, 2}}
	frame, err := appendFrame([]byte("before"), want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readFrame(bytes.NewReader(frame[len("before"):]))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := appendFrame(nil, &command{Body: make([]byte, frameMax)}); err == nil {
		t.Error("a frame without bounds was made")
	}
}

// FuzzFrame: whatever comes in is a command or an error, and what is a command can be sent again.
func FuzzFrame(f *testing.F) {
	whole, err := appendFrame(nil, &command{Code: 1, Fields: map[string]string{"a": "b"}, Body: []byte("body")})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{whole, whole[:len(whole)-5], {0, 0, 0, 4, 0, 0, 0, 0}, {0, 0, 0, 5, 1, 0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 8, 0, 0, 0, 9, '{', '}', 0, 0}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := appendFrame(nil, c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := readFrame(bytes.NewReader(again))
		if diff := cmp.Diff(c, back); err != nil || diff != "" && !strings.Contains(diff, "\ufffd") {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

// record is one message as a broker sends it.
func record(offset, at int64, body string, v6 bool) []byte {
	host, flag := 8, uint32(0)
	if v6 {
		host, flag = 20, bornHostV6|storeHostV6
	}
	b := make([]byte, 4, 200)
	b = append(b, 0xda, 0xa3, 0x20, 0xa7)
	b = append(b, make([]byte, 4+4+4)...)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	b = append(b, make([]byte, 8)...)
	b = binary.BigEndian.AppendUint32(b, flag)
	b = append(b, make([]byte, 8+host)...)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = append(b, make([]byte, host+4+8)...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	b = append(b, 1, 't', 0, 2, 'p', 'p')
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestMessages(t *testing.T) {
	t.Parallel()
	data := append(append(record(7, 1000, "one", false), record(8, 1001, "", true)...), record(9, 1002, "three", true)...)
	got, err := decodeMessages(data)
	want := []stored{{7, 1000, []byte("one")}, {8, 1001, []byte{}}, {9, 1002, []byte("three")}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(stored{})); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	_ = append(got[0].body, "more than one"...)
	if string(got[2].body) != "three" {
		t.Error("what is appended to a body reaches another")
	}
	for n := 1; n < len(data); n++ {
		if list, err := decodeMessages(data[:n]); err == nil && n != len(record(0, 0, "one", false)) && n != len(data)-len(record(0, 0, "three", true)) {
			t.Errorf("%d of %d bytes are %d messages", n, len(data), len(list))
		}
	}
}

// FuzzMessages: no bytes make it panic or read past their end.
func FuzzMessages(f *testing.F) {
	f.Add(record(7, 1000, "one", false))
	f.Add(append(record(8, 1001, "", true), record(9, 1002, "three", true)...))
	f.Add([]byte{0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := decodeMessages(data)
		size := 0
		for i := range list {
			size += len(list[i].body)
		}
		if err == nil && size > len(data) {
			t.Errorf("%d bytes of bodies in %d", size, len(data))
		}
	})
}

func TestQuoteKeys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"brokerAddrs":{0:"127.0.0.1:1",12:"b"}}`: `{"brokerAddrs":{"0":"127.0.0.1:1","12":"b"}}`,
		`{ 0:"a",` + "\n" + `1:"b"}`:               `{ "0":"a",` + "\n" + `"1":"b"}`,
		`{"a":"{0:1,2:3}","b":"\"{1:"}`:            `{"a":"{0:1,2:3}","b":"\"{1:"}`,
		`[1,2,3]`:                                  `[1,2,3]`,
		`{"n":4,"m":[5,6]}`:                        `{"n":4,"m":[5,6]}`,
	} {
		if got := string(quoteKeys([]byte(text))); got != want {
			t.Errorf("%s becomes %s", text, got)
		}
	}
}

// FuzzQuoteKeys: what is JSON already stays as it is.
func FuzzQuoteKeys(f *testing.F) {
	f.Add([]byte(`{"brokerAddrs":{0:"127.0.0.1:1",12:"b"}}`))
	f.Add([]byte(`{"a":"{0:\"","b":[1,2]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got := quoteKeys(data); json.Valid(data) && !bytes.Equal(got, data) {
			t.Errorf("%q becomes %q", data, got)
		}
	})
}

func TestPosition(t *testing.T) {
	t.Parallel()
	if p := position(0, 0); p != 1 {
		t.Errorf("the first position is %d", p)
	}
	if position(1, 0) <= position(0, offsetMax-1) {
		t.Error("positions do not grow from era to era")
	}
	for _, era := range []uint64{0, 1, 1<<20 - 1} {
		if e, at := readNote(note(era, 1795900000123)); e != era || at != 1795900000123 {
			t.Errorf("era %d reads as %d, %d", era, e, at)
		}
	}
}
