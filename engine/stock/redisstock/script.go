package redisstock

import (
	"crypto/sha1" //nolint:gosec // what SCRIPT LOAD answers with
	"encoding/hex"
	"time"

	"sluice/lua"
)

// script is one script as Redis gets it.
type script struct {
	what string // names the call in errors
	text string
	sha  string
	// patience is how many times Options.CallTimeout a call may take: a snapshot's cost grows with the partition.
	patience time.Duration
}

// scripts are all of them.
type scripts struct {
	reserve, lookup, read, snapshot, state, outbox, confirm, apply, shut, load *script
}

// newScripts puts the scripts together. change, if not nil, is applied to what stands in front of each of them: tests
// move the clock with it.
func newScripts(change func(fence string) string) *scripts {
	fence := lua.Fence
	if change != nil {
		fence = change(fence)
	}
	make := func(what, flags, name string) *script {
		// A script that begins like this is refused before its first statement where it must not write: out of memory, on
		// a replica, without enough replicas.
		text := "#!lua" + flags + "\n" + fence + lua.Codes + lua.Script(name)
		sum := sha1.Sum([]byte(text)) //nolint:gosec // not for security
		return &script{what: what, text: text, sha: hex.EncodeToString(sum[:]), patience: 1}
	}
	const reads, frees = " flags=no-writes", " flags=allow-oom"
	sc := &scripts{
		reserve:  make("reserve", "", "reserve"),
		lookup:   make("look up keys", reads, "lookup"),
		read:     make("read", reads, "read"),
		snapshot: make("take a snapshot", reads, "snapshot"),
		state:    make("read the state", reads, "state"),
		outbox:   make("read the outbox", reads, "outbox"),
		confirm:  make("confirm", frees, "confirm"),
		apply:    make("apply the stock log", "", "apply"),
		shut:     make("shut the fence", frees, "close"),
		load:     make("load", "", "load"),
	}
	sc.snapshot.patience = 20
	return sc
}
