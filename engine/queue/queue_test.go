package queue

import (
	"math"
	"testing"
)

func TestLetterID(t *testing.T) {
	for text, want := range map[string]LetterID{"0-1": {0, 1}, "4294967295-18446744073709551615": {math.MaxUint32, math.MaxUint64}, "7-0": {7, 0}} {
		if id, ok := ParseLetterID(text); !ok || id != want || id.String() != text {
			t.Errorf("%s is read as %v, %v", text, id, ok)
		}
	}
	for _, text := range []string{"", "-", "1", "1-", "-1", "1-2-3", "01-2", "1-+2", " 1-2", "4294967296-1", "1-18446744073709551616"} {
		if id, ok := ParseLetterID(text); ok {
			t.Errorf("%q is read as %v", text, id)
		}
	}
}
