package rocketqueue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A frame of the remoting protocol, all numbers big-endian:
//
//	length   4  of everything behind it
//	kind     1  of the header: 0, JSON
//	header   3  its length
//	header   -
//	body     -  the rest
//
// The header names a request by its code and an answer by its request's opaque number; fields are text.

// command is a request or the answer to one.
type command struct {
	Code     int               `json:"code"`
	Flag     int               `json:"flag"`
	Language string            `json:"language"`
	Opaque   int32             `json:"opaque"`
	Version  int               `json:"version"`
	Remark   string            `json:"remark,omitempty"`
	Fields   map[string]string `json:"extFields,omitempty"`

	Body []byte `json:"-"`
}

const (
	frameMax      = 32 << 20 // a poll's answer is a few megabytes at most, whatever the broker is set to
	answerFlag    = 1
	remoteVersion = 317     // as rocketmq-client-go says
	headerMax     = 1 << 24 // three bytes
)

var errFrame = errors.New("no frame of RocketMQ")

func appendFrame(dst []byte, c *command) ([]byte, error) {
	header, err := json.Marshal(c)
	if err != nil {
		return dst, err
	}
	size := 4 + len(header) + len(c.Body)
	if len(header) >= headerMax || size > frameMax {
		return dst, fmt.Errorf("a frame of %d bytes is too long", size)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(header)))
	return append(append(dst, header...), c.Body...), nil
}

// readFrame reads one frame into memory of its own.
func readFrame(r io.Reader) (*command, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 4 || n > frameMax {
		return nil, fmt.Errorf("%w: its length is %d", errFrame, n)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	return decodeFrame(frame)
}

// decodeFrame reads what is behind the length. The body shares its memory.
func decodeFrame(frame []byte) (*command, error) {
	if len(frame) < 4 {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, len(frame))
	}
	size := binary.BigEndian.Uint32(frame) & (headerMax - 1)
	if kind := frame[0]; kind != 0 {
		return nil, fmt.Errorf("%w: its header is of kind %d, not JSON", errFrame, kind)
	}
	if int(size) > len(frame)-4 {
		return nil, fmt.Errorf("%w: a header of %d bytes in a frame of %d", errFrame, size, len(frame))
	}
	c := &command{Body: frame[4+size:]}
	if err := json.Unmarshal(frame[4:4+size], c); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return c, nil
}

// quoteKeys puts the numbers that a Java broker writes as keys of JSON objects, {0:"..."}, into quotes. Everything else
// stays as it is.
func quoteKeys(text []byte) []byte {
	var out []byte
	quoted, key := false, false // inside a string; a key may begin here
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quoted && c == '\\' && i+1 < len(text):
			out = append(out, c)
			i++
			c = text[i]
		case c == '"':
			quoted, key = !quoted, false
		case quoted:
		case c == '{' || c == ',':
			key = true
		case key && '0' <= c && c <= '9':
			end := i
			for end < len(text) && '0' <= text[end] && text[end] <= '9' {
				end++
			}
			key = false
			if end < len(text) && text[end] == ':' {
				out = append(append(append(out, '"'), text[i:end]...), '"')
				i = end - 1
				continue
			}
		case c != ' ' && c != '\n' && c != '\t' && c != '\r':
			key = false
		}
		out = append(out, c)
	}
	return out
}
