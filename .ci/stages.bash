# Stages with their times, shared by .ci/test and .ci/run. Sourced; not run.
# shellcheck shell=bash

# The table of stages lies in a file, so that a script and the script that it calls write one table.
: "${SLUICE_STAGES:=$(mktemp "${TMPDIR:-/tmp}/sluice-stages.XXXXXX")}"
export SLUICE_STAGES

# stage NAME COMMAND...: runs a command, prints and notes how long it took. The first stage that fails ends the script.
# Bash ignores `set -e` inside COMMAND if that is a function: it has to pass failures on by itself.
stage() {
	local name=$1 start=$SECONDS status=0
	shift
	printf '\n==> %s\n' "$name"
	"$@" || status=$?
	local verdict=ok
	[ "$status" = 0 ] || verdict=FAILED
	printf '%-28s %5d s  %s\n' "$name" $((SECONDS - start)) "$verdict" >>"$SLUICE_STAGES"
	printf '<== %s: %s after %d s\n' "$name" "$verdict" $((SECONDS - start))
	[ "$status" = 0 ] || exit "$status"
}

print_stages() {
	printf '\n--- stages\n'
	cat "$SLUICE_STAGES"
}
