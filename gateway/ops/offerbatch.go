package ops

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"sluice/engine/order"
)

// A batch of offers of any length is taken in chunks, each created in one transaction per home shard and answered before
// the next is read: memory is bounded by a chunk, its answers and the buffers of the connection.
const (
	chunkLines = 1000
	chunkBytes = 1 << 20
	chunkWait  = time.Minute // for a chunk to come, and for its answers to be taken
	drainWait  = 2 * time.Second
)

// batchLine is the answer to one line of a batch.
type batchLine struct {
	Line    int      `json:"line"`
	Status  int      `json:"status"`
	Offer   *Offer   `json:"offer,omitempty"`
	Problem *Problem `json:"problem,omitempty"`
}

func (a *batchLine) fail(err error) {
	p := *problemOf(err)
	p.Title = http.StatusText(p.Status)
	a.Status, a.Problem = p.Status, &p
}

// offerBatch is one call of POST /ops/offers/batch.
type offerBatch struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	wire *http.ResponseController
	in   *bufio.Scanner
	line int  // of what was read last
	sent bool // an answer was written
	call *entry
	lost bool // what a chunk has done is not in the audit log: no other follows
}

// createOffers takes one offer per line and answers one line per line, in order, while it reads on. A bad line fails alone,
// a blank one is skipped; the good ones of a chunk are created together. An error of the store ends the call: as its
// status if nothing was answered yet, else as the answers to the lines of its chunk, after which none follow. So does an
// audit log that cannot be written.
func (s *Server) createOffers(w http.ResponseWriter, r *http.Request, e *entry) {
	b := &offerBatch{s: s, w: w, r: r, call: e, wire: http.NewResponseController(w), in: bufio.NewScanner(r.Body)}
	b.in.Buffer(nil, bodyMax+2)
	w.Header().Set("Connection", "close") // it may end before the body does
	err := unread(r, nil)
	if err == nil {
		err = b.wire.EnableFullDuplex()
	}
	for more := err == nil; more; {
		more, err = b.chunk()
	}
	if err == nil && !b.sent {
		err = invalid("the body must have one offer per line")
	}
	status, code := http.StatusOK, ""
	if err != nil {
		p := problemOf(err)
		status, code = p.Status, p.Code
	}
	e.end(status, code)
	if err != nil && !b.sent {
		s.fail(w, r, err)
	}
	b.drain()
}

// drain reads what is left of the body for a moment: a connection that is closed on a client that still sends loses the
// answers on their way.
func (b *offerBatch) drain() {
	_ = b.wire.Flush()
	_ = b.wire.SetReadDeadline(time.Now().Add(drainWait))
	_, _ = io.Copy(io.Discard, b.r.Body)
}

// chunk reads, creates and answers one chunk. more is false after the last.
func (b *offerBatch) chunk() (more bool, err error) {
	_ = b.wire.SetReadDeadline(time.Now().Add(chunkWait)) // what cannot be set stays as long as the server's own
	var answers []batchLine
	var good []order.Offer
	var at []int
	for size := 0; len(answers) < chunkLines && size < chunkBytes; {
		if more = b.in.Scan(); !more {
			break
		}
		b.line++
		size += len(b.in.Bytes())
		line := bytes.TrimSpace(b.in.Bytes())
		if len(line) == 0 {
			continue
		}
		answers = append(answers, batchLine{Line: b.line})
		o, err := parseNew(line)
		if err != nil {
			answers[len(answers)-1].fail(err)
			continue
		}
		good, at = append(good, o), append(at, len(answers)-1)
	}
	switch err := b.in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		tooLong := batchLine{Line: b.line + 1}
		tooLong.fail(&Problem{Status: 413, Code: "too_large", Detail: fmt.Sprintf("a line may have %d bytes; nothing behind it was read", bodyMax)})
		answers = append(answers, tooLong)
	case err != nil: // the client is gone, or too slow: what was not answered was not created
		return false, invalid("the body could not be read: " + err.Error())
	}
	if len(good) > 0 {
		if err := b.create(good, at, answers); err != nil {
			if b.sent {
				_ = b.answer(answers) // the call ends either way
			}
			return false, err
		}
	}
	if b.lost {
		unseen := batchLine{Line: b.line + 1}
		unseen.fail(errUnaudited)
		answers, more = append(answers, unseen), false
	}
	if len(answers) > 0 && b.answer(answers) != nil {
		return false, nil // the client is gone
	}
	return more, nil
}

// create creates the good lines of a chunk; at says which answers are theirs.
func (b *offerBatch) create(good []order.Offer, at []int, answers []batchLine) error {
	ctx, cancel := context.WithTimeout(b.r.Context(), chunkWait)
	defer cancel()
	created, err := b.s.program.Offers.CreateOffers(ctx, good)
	if err != nil {
		b.s.log.Error("offers not created", "offers", len(good), "error", err)
		for _, i := range at {
			answers[i].fail(err)
		}
		return err
	}
	b.call.createdMany(created)
	b.lost = b.call.progress() != nil
	status := b.s.createdStatus(ctx, created)
	for i := range created {
		a := &answers[at[i]]
		a.Status, a.Offer = b.s.edited(status, &created[i], b.s.remaining(&created[i]))
	}
	return nil
}

// answer sends the answers of a chunk.
func (b *offerBatch) answer(answers []batchLine) error {
	_ = b.wire.SetWriteDeadline(time.Now().Add(chunkWait))
	if !b.sent {
		b.sent = true
		b.w.Header().Set("Content-Type", "application/x-ndjson")
		b.w.Header().Set("Cache-Control", "no-store")
	}
	var out bytes.Buffer
	for i := range answers {
		out.Write(encode(&answers[i]))
	}
	_, err := io.Copy(b.w, &out)
	return errors.Join(err, b.wire.Flush())
}
