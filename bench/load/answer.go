package load

import (
	"bytes"
	"errors"

	"sluice/engine/order"
)

// answer is what the generator keeps of one HTTP answer.
type answer struct {
	size   int      // bytes, head and body
	code   int      // status
	id     order.ID // of the order, on 2xx
	reason Reason   // of the refusal, otherwise
	status order.Status
	body   []byte // good until the next answer
}

var (
	errShort  = errors.New("answer is not complete")
	errLines  = errors.New("answer of a batch is not one line per line, in order")
	errAnswer = errors.New("answer is not what this generator reads: HTTP/1.1 with a Content-Length")
)

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
	idField       = []byte(`"id":"`)
	statusField   = []byte(`"status":"`)
	codeField     = []byte(`"code":"`)
	lineStatus    = []byte(`,"status":`)
)

// answerMax bounds the body of an answer, in bytes.
const answerMax = 8 << 20

// parse reads the answer at the front of b; errShort asks for more bytes.
func parse(b []byte, a *answer) error {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return errShort
	}
	head := b[:end+2]
	if len(head) < 14 || string(head[:7]) != "HTTP/1." {
		return errAnswer
	}
	a.code = int(head[9]-'0')*100 + int(head[10]-'0')*10 + int(head[11]-'0')
	at := bytes.Index(head, contentLength)
	if at < 0 || a.code < 100 || a.code > 999 {
		return errAnswer
	}
	n, ok := number(head[at+len(contentLength):])
	if !ok || n > answerMax {
		return errAnswer
	}
	a.size = end + 4 + int(n)
	if len(b) < a.size {
		return errShort
	}
	a.body = b[end+4 : a.size]
	a.content(a.body)
	return nil
}

// line reads the answer to line n at the front of a batch's answer, and moves body behind it.
func (a *answer) line(body *[]byte, n int) error {
	line, rest, _ := bytes.Cut(*body, []byte("\n"))
	*body = rest
	line, ok := bytes.CutPrefix(line, []byte(`{"line":`))
	if got, _ := number(line); !ok || got != uint64(n) {
		return errLines
	}
	code, _ := number(line[bytes.Index(line, lineStatus)+len(lineStatus):])
	if a.code = int(code); a.code < 200 || a.code > 999 {
		return errLines
	}
	a.content(line)
	return nil
}

func (a *answer) content(body []byte) {
	a.id, a.reason, a.status = 0, 0, ""
	if a.code >= 200 && a.code < 300 {
		if at := bytes.Index(body, idField); at >= 0 {
			n, _ := number(body[at+len(idField):])
			a.id = order.ID(n)
		}
		a.status = order.Status(text(body, statusField))
		return
	}
	a.reason = reasonOf(text(body, codeField))
}

// text is the string value behind the first occurrence of field; the known ones are not allocated.
func text(body, field []byte) string {
	at := bytes.Index(body, field)
	if at < 0 {
		return ""
	}
	v := body[at+len(field):]
	if end := bytes.IndexByte(v, '"'); end >= 0 {
		v = v[:end]
	}
	switch string(v) {
	case string(order.Pending):
		return string(order.Pending)
	case "sold_out":
		return "sold_out"
	case "over_limit":
		return "over_limit"
	}
	return string(v)
}

// number reads a decimal number that ends at the first other byte.
func number(b []byte) (n uint64, ok bool) {
	for i, c := range b {
		if c < '0' || c > '9' {
			return n, i > 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(b) > 0
}
