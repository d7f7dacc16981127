// Package style holds no code, only tests: the rules of this project that no linter knows, checked over every Go file
// of the module. Each rule is proven by a small planted offence. A rule that should not hold any longer is changed
// here, with the reason in docs/decisions.md; nothing is switched off in the file that offends.
package style
