package audit

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"

	"sluice/engine/order"
)

// Entry is one call that placed an order, as the client saw it. A client that repeats a key makes several entries.
type Entry struct {
	User     order.UserID
	Key      string   // idempotency key; empty if none was sent
	Order    order.ID // that the answer named; 0 if none
	Units    int64
	Code     int   // HTTP status; 0: no answer came
	Sent     int64 // microseconds since 1970
	Answered int64 // the same; of a call without an answer, when it was given up
}

// accepted tells whether the answer promised an order: 202, 201, or 200 of a repeated key.
func (e *Entry) accepted() bool { return e.Code >= 200 && e.Code < 300 }

// unknown tells whether the call may have had an effect all the same.
func (e *Entry) unknown() bool { return e.Code == 0 || e.Code == 504 || e.Code == 500 || e.Code == 502 }

// A history file is append-only: the magic, then entries, little-endian:
//
//	length u32 | CRC-32C of what follows u32 | user u64 | order u64 | units i64 | sent i64 | answered i64 | code u16 | key
//
// A writer that dies leaves at most one damaged entry at the end; the reader stops there.
const historyMagic = "sluice history 1\n"

const entryFixed = 5*8 + 2

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrNoHistory says that a file is not a history at all.
var ErrNoHistory = errors.New("file is not a history")

// Writer appends entries to a history file, each with one write, so that what a returned Append noted survives the end
// of the process, though not of the machine. It is safe for concurrent use.
type Writer struct {
	mu  sync.Mutex
	f   *os.File
	buf []byte
}

// Create opens a history file for appending, and begins it if it is new. A damaged entry at its end, left by a writer
// that died, is cut off.
func Create(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	size, err := intact(f)
	if err == nil && size == 0 {
		size = int64(len(historyMagic))
		_, err = f.WriteAt([]byte(historyMagic), 0)
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("history %s: %w", path, err), f.Close())
	}
	return &Writer{f: f}, nil
}

// Append adds one entry.
func (w *Writer) Append(e Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = appendEntry(w.buf[:0], &e)
	_, err := w.f.Write(w.buf)
	return err
}

// Close closes the file.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.f.Close()
}

// ReadHistory reads a history file. A damaged end is left out: its writer died there.
func ReadHistory(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries := []Entry{}
	_, err = scan(f, func(e Entry) { entries = append(entries, e) })
	if err != nil {
		return nil, fmt.Errorf("history %s: %w", path, err)
	}
	return entries, nil
}

// intact is the number of bytes at the front of f that are whole entries.
func intact(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	return scan(f, func(Entry) {})
}

func scan(r io.Reader, each func(Entry)) (size int64, err error) {
	br := bufio.NewReaderSize(r, 1<<20)
	magic := make([]byte, len(historyMagic))
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != historyMagic {
		return 0, ErrNoHistory
	}
	size = int64(len(magic))
	var head [8]byte
	body := make([]byte, 0, entryFixed+255)
	for {
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return size, notEnd(err)
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n < entryFixed || n > uint32(cap(body)) {
			return size, nil
		}
		body = body[:n]
		if _, err := io.ReadFull(br, body); err != nil {
			return size, notEnd(err)
		}
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return size, nil
		}
		each(decodeEntry(body))
		size += int64(len(head)) + int64(n)
	}
}

func notEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func appendEntry(b []byte, e *Entry) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, v := range [...]uint64{uint64(e.User), uint64(e.Order), uint64(e.Units), uint64(e.Sent), uint64(e.Answered)} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint16(b, uint16(e.Code))
	b = append(b, e.Key...)
	le.PutUint32(b[start:], uint32(len(b)-start-8))
	le.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli))
	return b
}

func decodeEntry(b []byte) Entry {
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return Entry{
		User: order.UserID(u64(0)), Order: order.ID(u64(1)), Units: int64(u64(2)), Sent: int64(u64(3)),
		Answered: int64(u64(4)), Code: int(binary.LittleEndian.Uint16(b[40:])), Key: string(b[entryFixed:]),
	}
}
