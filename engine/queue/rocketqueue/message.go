package rocketqueue

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A poll's answer is messages, one behind the other, as they lie in the broker's log:
//
//	size 4, magic 4, body crc 4, queue 4, flag 4, queue offset 8, log offset 8, system flag 4, born at 8,
//	born host 8 (20 if IPv6), stored at 8, store host 8 (20), consumed 4, transaction 8,
//	body size 4, body, topic size 1, topic, properties size 2, properties

// stored is one message of a queue.
type stored struct {
	offset int64
	at     int64 // when it was stored, Unix milliseconds of the broker's clock
	body   []byte
}

const (
	offsetAt     = 20 // where the queue offset stands
	systemFlagAt = 36
	bornHostAt   = 48

	bornHostV6  = 1 << 4
	storeHostV6 = 1 << 5
)

var errMessage = errors.New("no message of RocketMQ")

// decodeMessages reads a poll's answer. Bodies share its memory, and none is longer than it is: what is appended to one
// does not reach the next.
func decodeMessages(data []byte) (list []stored, err error) {
	for len(data) > 0 {
		if len(data) < 4 {
			return nil, fmt.Errorf("%w: %d bytes", errMessage, len(data))
		}
		size := binary.BigEndian.Uint32(data)
		if size < 4 || uint64(size) > uint64(len(data)) {
			return nil, fmt.Errorf("%w: its size is %d, %d bytes are there", errMessage, size, len(data))
		}
		m, err := decodeMessage(data[:size])
		if err != nil {
			return nil, err
		}
		list, data = append(list, m), data[size:]
	}
	return list, nil
}

func decodeMessage(data []byte) (m stored, err error) {
	if len(data) < bornHostAt {
		return m, fmt.Errorf("%w: %d bytes", errMessage, len(data))
	}
	host := func(v6 uint32) int {
		if binary.BigEndian.Uint32(data[systemFlagAt:])&v6 != 0 {
			return 20
		}
		return 8
	}
	storedAt := bornHostAt + host(bornHostV6)
	sizeAt := storedAt + 8 + host(storeHostV6) + 4 + 8
	if len(data) < sizeAt+4 {
		return m, fmt.Errorf("%w: %d bytes", errMessage, len(data))
	}
	size := binary.BigEndian.Uint32(data[sizeAt:])
	if uint64(size) > uint64(len(data)-sizeAt-4) {
		return m, fmt.Errorf("%w: a body of %d bytes in %d", errMessage, size, len(data))
	}
	m.offset = int64(binary.BigEndian.Uint64(data[offsetAt:]))
	m.at = int64(binary.BigEndian.Uint64(data[storedAt:]))
	from, to := sizeAt+4, sizeAt+4+int(size)
	m.body = data[from:to:to]
	return m, nil
}
