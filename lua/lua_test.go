package lua_test

import (
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sluice/engine/order"
	"sluice/lua"
)

// TestCodesEqualGo compares names and numbers in both directions.
func TestCodesEqualGo(t *testing.T) {
	t.Parallel()
	inLua := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^local ([A-Z_]+)\s*= (\d+)`).FindAllStringSubmatch(lua.Codes, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := inLua[strings.ToLower(m[1])]; twice {
			t.Errorf("%s is declared twice", m[1])
		}
		inLua[strings.ToLower(m[1])] = n
	}
	inGo := map[string]int{}
	for _, c := range order.Codes() {
		inGo[c.String()] = int(c)
	}
	if !maps.Equal(inLua, inGo) {
		t.Errorf("codes.lua has %v, engine/order has %v", inLua, inGo)
	}
}

// TestEveryLineIsUnderstood: a declaration that the test above cannot read would not be compared.
func TestEveryLineIsUnderstood(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`^(--.*|local [A-Z_]+\s*= \d+ -- .+)$`)
	for i, s := range strings.Split(strings.TrimSpace(lua.Codes), "\n") {
		if !line.MatchString(s) {
			t.Errorf("codes.lua:%d: %q is neither a comment nor a code with its meaning", i+1, s)
		}
	}
	for _, word := range []string{"-- KEYS ", "-- ARGV ", "-- Codes ", "-- Invariant "} {
		if !strings.Contains(lua.Codes, "\n"+word) {
			t.Errorf("the header does not state %q", strings.TrimSpace(word[3:]))
		}
	}
}
