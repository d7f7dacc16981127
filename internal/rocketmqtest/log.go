package rocketmqtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Message is one in the broker's log.
type Message struct {
	At     int64 // where it begins in the log
	Stored time.Time
	Topic  string
	Queue  int
	Body   []byte
}

// What a message begins with behind its size, and the filler at the end of a file.
var (
	messageMagic = []byte{0xda, 0xa3, 0x20, 0xa7}
	blankMagic   = []byte{0xcb, 0xd4, 0x31, 0x94}
)

// Log reads the log of a broker that is down, up to the last message that was written.
func (r *RocketMQ) Log() (list []Message) {
	r.t.Helper()
	for _, file := range r.files() {
		data, err := os.ReadFile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		for rest, base := data, begin(r, file); len(rest) > 8; {
			size := int(binary.BigEndian.Uint32(rest))
			if size == 0 || bytes.Equal(rest[4:8], blankMagic) {
				break
			}
			if !bytes.Equal(rest[4:8], messageMagic) || size > len(rest) {
				r.t.Fatalf("there is no message at %d of the log", base+int64(len(data)-len(rest)))
			}
			m, err := parse(rest[:size])
			if err != nil {
				r.t.Fatal(err)
			}
			m.At = base + int64(len(data)-len(rest))
			list, rest = append(list, m), rest[size:]
		}
	}
	return list
}

// parse reads a message as the broker stores it, with addresses of four bytes:
//
//	size u32 | magic u32 | crc u32 | queue u32 | flag u32 | offset u64 | place u64 | system flag u32 | born u64 | by 8 | stored u64 |
//	at 8 | consumed u32 | transaction u64 | length u32, body | length u8, topic | length u16, properties
func parse(b []byte) (m Message, err error) {
	const storedAt, bodyAt = 56, 84
	if len(b) < bodyAt+4 {
		return m, fmt.Errorf("a message of %d bytes", len(b))
	}
	m.Queue = int(binary.BigEndian.Uint32(b[12:]))
	m.Stored = time.UnixMilli(int64(binary.BigEndian.Uint64(b[storedAt:])))
	n := int(binary.BigEndian.Uint32(b[bodyAt:]))
	rest := b[bodyAt+4:]
	if len(rest) < n+1 || len(rest) < n+1+int(rest[n]) {
		return m, fmt.Errorf("a message of %d bytes has a body of %d", len(b), n)
	}
	m.Body, rest = rest[:n], rest[n:]
	m.Topic = string(rest[1 : 1+int(rest[0])])
	return m, nil
}

// LoseAt overwrites with zeros the log of a broker that is down, from a place to its end: as if what was written last had
// not reached the disk.
func (r *RocketMQ) LoseAt(at int64) {
	r.t.Helper()
	for _, file := range r.files() {
		info, err := os.Stat(file)
		if err != nil {
			r.t.Fatal(err)
		}
		from := max(0, at-begin(r, file))
		if n := info.Size() - from; n > 0 {
			r.overwrite(file, from, make([]byte, n))
		}
	}
}

// files are those of the log, in order.
func (r *RocketMQ) files() []string {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.Dir, "store", "commitlog", "*"))
	if err != nil || len(files) == 0 {
		r.t.Fatal("the broker has no log: ", err)
	}
	slices.Sort(files)
	return files
}

// begin is where a file begins in the log: it is named after that.
func begin(r *RocketMQ, file string) int64 {
	r.t.Helper()
	n, err := strconv.ParseInt(filepath.Base(file), 10, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}
