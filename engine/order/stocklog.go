package order

import (
	"encoding/json"
	"fmt"
)

// LogRow is one row of a partition's stock log: something that changes fast stock and is not a sale. Rows are numbered
// from 1 without gaps, in commit order.
type LogRow struct {
	N     uint64
	Items []LogItem
}

// LogItem is one change. What the fields mean depends on Op; fields that Op does not name are zero.
type LogItem struct {
	Op     LogOp   `json:"op"`
	Offer  OfferID `json:"offer"`
	User   UserID  `json:"user,omitempty"`
	Units  int64   `json:"units,omitempty"`
	Limit  uint32  `json:"limit,omitempty"`
	Opens  Milli   `json:"opens,omitempty"`
	Closes Milli   `json:"closes,omitempty"`
}

// LogOp is the kind of a change.
type LogOp string

// The changes. Fast stock applies Create, Window, Give and Raise; Note concerns only the catalogue.
const (
	OpCreate LogOp = "create" // offer with Units left, Limit, Opens, Closes; an offer that is there already stays as it is
	OpWindow LogOp = "window" // new Opens and Closes; a closed offer is one whose Closes has passed
	OpGive   LogOp = "give"   // Units of User come back: left grows, what the user holds shrinks
	OpRaise  LogOp = "raise"  // Units more are on sale
	OpNote   LogOp = "note"   // title or price changed, or the total was lowered: nothing for fast stock
)

// EncodeLogItems is the stored form of a row's items: a JSON array.
func EncodeLogItems(items []LogItem) []byte {
	b, err := json.Marshal(items)
	if err != nil {
		panic("BUG: log items do not encode: " + err.Error())
	}
	return b
}

// DecodeLogItems reads what EncodeLogItems wrote. An unknown operation is an error: a newer version wrote it.
func DecodeLogItems(b []byte) ([]LogItem, error) {
	var items []LogItem
	if err := json.Unmarshal(b, &items); err != nil {
		return nil, fmt.Errorf("stock log items: %w", err)
	}
	for i := range items {
		switch items[i].Op {
		case OpCreate, OpWindow, OpGive, OpRaise, OpNote:
		default:
			return nil, fmt.Errorf("stock log items: unknown operation %q", items[i].Op)
		}
	}
	return items, nil
}
