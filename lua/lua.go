// Package lua holds the scripts that run inside Redis, embedded into the binary, and their codes. The header of each
// script states its KEYS, its ARGV, its codes and the invariant that it keeps. The package runs nothing: the Redis
// driver of fast stock loads the scripts and calls them.
package lua

import _ "embed" // for the scripts; no code is imported by it

// Codes declares the answers as Lua locals. It stands in front of every script that answers with a code.
//
//go:embed codes.lua
var Codes string
