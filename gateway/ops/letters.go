package ops

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"sluice/engine/order"
	"sluice/engine/queue"
)

// Letters is what a person does about dead letters.
type Letters interface {
	Letters(ctx context.Context, after queue.LetterID, limit int) ([]queue.Letter, error)
	FindLetter(ctx context.Context, id queue.LetterID) (*queue.Letter, error) // nil if it is not there
	ReplayLetter(ctx context.Context, id queue.LetterID) (effect string, err error)
	DropLetter(ctx context.Context, id queue.LetterID) error
}

// lettersMax bounds a page of dead letters: they are read whole.
const lettersMax = 100

// Letter is a dead letter. Lists do not have what comes after Size.
type Letter struct {
	ID        string          `json:"id"`
	Partition order.Partition `json:"partition"` // in whose queue it was
	Buried    time.Time       `json:"buried_at"`
	Reason    string          `json:"reason"`
	Size      int             `json:"size"` // bytes

	Hex     string   `json:"hex,omitempty"`     // all bytes: they may hold names and addresses
	Decodes *bool    `json:"decodes,omitempty"` // by this program, now
	Error   string   `json:"error,omitempty"`   // why it does not
	Epoch   string   `json:"epoch,omitempty"`
	Batch   string   `json:"batch_id,omitempty"`
	Orders  []string `json:"orders,omitempty"` // ids
}

func showLetter(l *queue.Letter) *Letter {
	return &Letter{ID: l.ID().String(), Partition: l.Partition, Buried: l.At.UTC(), Reason: l.Reason, Size: len(l.Body)}
}

func (s *Server) listLetters(r *http.Request) (int, any, error) {
	limit, err := pageLimit(r, lettersMax)
	if err != nil {
		return 0, nil, err
	}
	var after queue.LetterID
	if text := r.URL.Query().Get("cursor"); text != "" {
		var ok bool
		if after, ok = queue.ParseLetterID(text); !ok {
			return 0, nil, invalid("cursor must be the next_cursor of an earlier page")
		}
	}
	letters, err := s.program.Letters.Letters(r.Context(), after, limit+1)
	if err != nil {
		return 0, nil, err
	}
	data, next := []*Letter{}, ""
	for i := range letters {
		if i == limit {
			next = data[i-1].ID
			break
		}
		data = append(data, showLetter(&letters[i]))
	}
	return http.StatusOK, map[string]any{"data": data, "next_cursor": next}, nil
}

// letter reads the dead letter of the path.
func (s *Server) letter(r *http.Request) (*queue.Letter, error) {
	id, ok := queue.ParseLetterID(r.PathValue("id"))
	if !ok {
		return nil, queue.ErrNoLetter
	}
	l, err := s.program.Letters.FindLetter(r.Context(), id)
	if err == nil && l == nil {
		err = queue.ErrNoLetter
	}
	return l, err
}

func (s *Server) getLetter(r *http.Request) (int, any, error) {
	l, err := s.letter(r)
	if err != nil {
		return 0, nil, err
	}
	shown := showLetter(l)
	m, err := order.DecodeMessage(l.Body)
	decodes := err == nil
	shown.Hex, shown.Decodes = hex.EncodeToString(l.Body), &decodes
	if err != nil {
		shown.Error = err.Error()
		return http.StatusOK, shown, nil
	}
	shown.Epoch = order.ID(m.Epoch).String()
	if m.Kind == order.BatchMessage {
		shown.Batch = order.ID(m.Batch).String()
	}
	for i := range m.Records {
		shown.Orders = append(shown.Orders, m.Records[i].ID.String())
	}
	return http.StatusOK, shown, nil
}

func (s *Server) replayLetter(r *http.Request, e *entry) (int, any, error) {
	l, err := s.letter(r)
	if err != nil {
		return 0, nil, err
	}
	effect, err := s.program.Letters.ReplayLetter(r.Context(), l.ID())
	if err != nil {
		return 0, nil, err
	}
	e.note(change{What: "dead letter " + l.ID().String(), To: effect})
	return http.StatusOK, map[string]string{"id": l.ID().String(), "effect": effect}, nil
}

func (s *Server) dropLetter(r *http.Request, e *entry) (int, any, error) {
	l, err := s.letter(r)
	if err != nil {
		return 0, nil, err
	}
	if err := s.program.Letters.DropLetter(r.Context(), l.ID()); err != nil {
		return 0, nil, err
	}
	e.note(change{What: "dead letter " + l.ID().String(), From: map[string]any{"reason": l.Reason, "bytes": len(l.Body)}, To: "dropped"})
	return http.StatusOK, map[string]string{"id": l.ID().String(), "effect": "dropped"}, nil
}
