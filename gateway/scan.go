package gateway

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"sluice/engine/order"
)

// scanner reads JSON (RFC 8259) from front to back, once. The first thing that is wrong is kept in problem, and from
// then on every method gives zeros and moves nothing. Only what the caller asks for is read, and nothing is skipped:
// nesting cannot run away. Beyond the grammar it wants UTF-8, and every member of an object at most once.
type scanner struct {
	b       []byte
	i       int
	scratch []byte // of the last unescaped member name
	failed  bool
	invalid fieldError
	parent  string // pointer to the object being read
	item    int    // index behind parent, or -1
	field   string // member being read
}

// text is a JSON string as it stands in the body, without its quotes.
type text struct {
	raw   []byte
	plain bool // written as it is meant, and as the canonical form writes it
	set   bool
}

// pointer is the JSON pointer to what is being read.
func (s *scanner) pointer() string {
	p := s.parent
	if s.item >= 0 {
		p += "/" + strconv.Itoa(s.item)
	}
	if s.field != "" {
		p += "/" + s.field
	}
	return p
}

// fail keeps the first fault.
func (s *scanner) fail(detail string) {
	if !s.failed {
		s.failed = true
		s.invalid = fieldError{pointer: s.pointer(), detail: detail}
	}
	s.i = len(s.b)
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek is the first byte of what follows the white space; 0 at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.b) && s.b[s.i] > ' ' {
		return s.b[s.i]
	}
	s.space()
	if s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

// open reads the bracket that begins an object or array. what is said if there is none.
func (s *scanner) open(bracket byte, what string) bool {
	if s.peek() != bracket {
		s.fail(what)
		return false
	}
	s.i++
	return true
}

// next tells whether another element of the object or array that ends with bracket follows, and reads the comma.
func (s *scanner) next(bracket byte, first bool) bool {
	switch c := s.peek(); {
	case s.failed:
		return false
	case c == bracket:
		s.i++
		return false
	case first:
		return true
	case c == ',':
		s.i++
		return true
	}
	s.fail("is not valid JSON: a comma or a closing bracket is missing")
	return false
}

// member reads the name of the next member of an object and its colon. more is false at the object's end. The name is
// good until the next call.
func (s *scanner) member(first bool) (name []byte, more bool) {
	s.field = ""
	if !s.next('}', first) {
		return nil, false
	}
	t := s.text("is not valid JSON: a member's name is missing")
	if name = t.raw; !t.plain {
		s.scratch = t.appendDecoded(s.scratch[:0])
		name = s.scratch
	}
	if s.peek() != ':' {
		s.fail("is not valid JSON: a colon is missing")
		return nil, false
	}
	s.i++
	return name, !s.failed
}

// once fails if bit is in seen already, and puts it there.
func (s *scanner) once(seen *uint, bit uint, name string) bool {
	s.field = name
	if *seen&bit != 0 {
		s.fail("is given twice")
		return false
	}
	*seen |= bit
	return true
}

// unknown fails because of a member that does not belong here.
func (s *scanner) unknown(name []byte) {
	name = bytes.ToValidUTF8(name[:min(len(name), 64)], nil)
	name = bytes.ReplaceAll(bytes.ReplaceAll(name, []byte("~"), []byte("~0")), []byte("/"), []byte("~1"))
	s.field = string(name)
	s.fail("is not a known field")
}

// null reads a null, if there is one.
func (s *scanner) null() bool {
	if s.peek() == 'n' && bytes.HasPrefix(s.b[s.i:], []byte("null")) {
		s.i += 4
		return true
	}
	return false
}

// end fails if anything but white space is left.
func (s *scanner) end() {
	s.field = ""
	if s.peek(); s.i < len(s.b) {
		s.fail("has something behind its JSON value")
	}
}

// text reads a string. what is said if there is none.
func (s *scanner) text(what string) text {
	if s.peek() != '"' {
		s.fail(what)
		return text{}
	}
	s.i++
	start, plain := s.i, true
	s.i += plainRun(s.b[start:])
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return text{raw: s.b[start : s.i-1], plain: plain, set: true}
		case c == '\\':
			plain = false
			if !s.escape() {
				return text{}
			}
		case c < ' ':
			s.fail("is not valid JSON: a control character in a text must be escaped")
			return text{}
		case c < utf8.RuneSelf:
			s.i++
		default:
			r, size := utf8.DecodeRune(s.b[s.i:])
			if r == utf8.RuneError && size == 1 {
				s.fail("is not valid UTF-8")
				return text{}
			}
			plain = plain && r != '\u2028' && r != '\u2029'
			s.i += size
		}
	}
	s.fail("is not valid JSON: a text does not end")
	return text{}
}

// plainRun is the number of bytes at the front of b that stand for themselves: ASCII, but for control characters, quotes
// and backslashes.
func plainRun(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for len(b)-n >= 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		// The lowest byte whose top bit is set is the first that does not; borrows reach only bytes above it.
		stops := (x | (x - ' '*ones) | ((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones)) & tops
		if stops != 0 {
			return n + bits.TrailingZeros64(stops)/8
		}
		n += 8
	}
	for n < len(b) && b[n] >= ' ' && b[n] < utf8.RuneSelf && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// escape reads one escape sequence.
func (s *scanner) escape() bool {
	rest := s.b[s.i+1:]
	if len(rest) > 0 && bytes.IndexByte([]byte(`"\/bfnrt`), rest[0]) >= 0 {
		s.i += 2
		return true
	}
	if len(rest) > 0 && rest[0] == 'u' && hex4(rest[1:]) >= 0 {
		s.i += 6
		return true
	}
	s.fail("is not valid JSON: an unknown escape in a text")
	return false
}

// hex4 is the number that the first four hexadecimal digits of b make, or -1.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var n rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		n = n<<4 | rune(c)
	}
	return n
}

// appendDecoded appends the text itself. A surrogate without its partner becomes U+FFFD, as in encoding/json.
func (t text) appendDecoded(dst []byte) []byte {
	for b := t.raw; len(b) > 0; {
		if b[0] != '\\' {
			dst, b = append(dst, b[0]), b[1:]
			continue
		}
		if b[1] != 'u' {
			dst, b = append(dst, unescaped(b[1])), b[2:]
			continue
		}
		r := hex4(b[2:])
		b = b[6:]
		if utf16.IsSurrogate(r) {
			second := rune(-1)
			if len(b) >= 6 && b[0] == '\\' && b[1] == 'u' {
				second = hex4(b[2:])
			}
			if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
				b = b[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// number reads a number. n is its value if it is written as a whole number of 1 to max, else 0.
func (s *scanner) number(max uint32) (n uint32) {
	s.space()
	b := s.b[s.i:]
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	whole := i == 0
	digits := i
	for i < len(b) && b[i]-'0' <= 9 {
		if n <= max {
			n = n*10 + uint32(b[i]-'0')
		}
		i++
	}
	if i == digits || b[digits] == '0' && i > digits+1 {
		s.fail("must be a number")
		return 0
	}
	i, fraction := fractionEnd(b, i)
	s.i += i
	switch {
	case fraction < 0:
		s.fail("must be a number")
		return 0
	case !whole || fraction > 0 || n > max:
		return 0
	}
	return n
}

// fractionEnd reads the fraction and the exponent of a number, of which the digits end at i. length is how long they
// are, -1 if they are damaged.
func fractionEnd(b []byte, i int) (end, length int) {
	start := i
	if i < len(b) && b[i] == '.' {
		if end = digitsEnd(b, i+1); end == i+1 {
			return i, -1
		}
		i = end
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if end = digitsEnd(b, i); end == i {
			return i, -1
		}
		i = end
	}
	return i, i - start
}

func digitsEnd(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// id reads a string that holds an id. ok is false if it holds none.
func (s *scanner) id() (id uint64, ok bool) {
	t := s.text("must be a text of digits")
	if t.plain {
		return parseID(t.raw)
	}
	return parseID(t.appendDecoded(nil))
}

func parseID(b []byte) (uint64, bool) {
	if len(b) > 19 {
		return 0, false
	}
	return order.ParseID(string(b))
}
