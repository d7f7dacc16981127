// Package lua holds the scripts that run inside Redis, embedded into the binary, and their codes. The header of each
// script states its KEYS, its ARGV, its codes and the invariant that it keeps. The package runs nothing: the Redis
// driver of fast stock loads the scripts and calls them.
package lua

import "embed"

// Codes declares the answers as Lua locals. It stands in front of every script that answers with a code.
//
//go:embed codes.lua
var Codes string

// Fence is the names of the keys and the fence. It stands in front of every script.
//
//go:embed fence.lua
var Fence string

//go:embed apply.lua close.lua confirm.lua load.lua lookup.lua outbox.lua read.lua reserve.lua snapshot.lua state.lua
var files embed.FS

// Script is the body of a script by its name without .lua. A name that there is not is a bug of the caller.
func Script(name string) string {
	text, err := files.ReadFile(name + ".lua")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(text)
}
