# Functions that the services share. Sourced by up and down; not run.
# shellcheck shell=bash

say() { printf '%s\n' "deploy/local: $*" >&2; }

die() {
	say "$*"
	exit 1
}

# need_package BINARY PACKAGE: installs a Debian package unless one of its programs is there.
need_package() {
	command -v "$1" >/dev/null && return
	[ "$(id -u)" = 0 ] || die "$1 is missing; as root run: apt-get install -y --no-install-recommends $2"
	say "installing $2"
	# A policy of 101 keeps the package from starting its service.
	local policy=/usr/sbin/policy-rc.d made=
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
		made=1
	fi
	local status=0
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"; } >&2 || status=$?
	[ -z "$made" ] || rm -f "$policy"
	[ "$status" = 0 ] || die "apt-get could not install $2"
}

# taken PORT: whether somebody listens on a TCP port of the loopback interface.
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port [OTHER]: prints a TCP port of the loopback interface that nobody listens on, below the range of outgoing
# connections; with OTHER, the port that is greater by OTHER is as free and below that range too.
free_port() {
	local port other=${1:-0}
	for _ in $(seq 200); do
		port=$((20000 + RANDOM % 10000))
		if ! taken "$port" && ! taken $((port - other)); then
			printf '%s\n' $((port - other))
			return
		fi
	done
	die "found no free port"
}

# is PID NAME DIR: whether a process lives, is called NAME and works in DIR or below (its pid may belong to another by now).
is() {
	[ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] && [[ $(readlink "/proc/$1/cwd" 2>/dev/null)/ == "$3"/* ]]
}

# running PIDFILE NAME: whether the process of a pid file lives. It may take its file with it at any moment.
running() { is "$(cat "$1" 2>/dev/null)" "$2" "${1%/*}"; }

# stop NAME PIDFILE...: ends processes and waits until they have gone, at most 30 s, then kills them.
stop() {
	local name=$1 file
	shift
	for file in "$@"; do
		signal TERM "$name" "$file"
		signal CONT "$name" "$file" # a test may have paused it
	done
	for _ in $(seq 300); do
		any_running "$name" "$@" || break
		sleep 0.1
	done
	for file in "$@"; do
		if running "$file" "$name"; then
			say "$name of $file does not end: killed"
			signal KILL "$name" "$file"
		fi
		rm -f "$file"
	done
}

# signal SIGNAL NAME PIDFILE: sends a signal to the process of a pid file, if it lives.
signal() {
	local pid
	pid=$(cat "$3" 2>/dev/null) || return 0
	! is "$pid" "$2" "${3%/*}" || kill -"$1" "$pid" 2>/dev/null || true
}

# any_running NAME PIDFILE...
any_running() {
	local name=$1 file
	shift
	for file in "$@"; do
		! running "$file" "$name" || return 0
	done
	return 1
}

# set_env FILE NAME VALUE: sets one variable in a file of NAME='VALUE' lines, readable by its owner only.
set_env() {
	local file=$1 name=$2 value=$3 new
	new=$(umask 077 && mktemp "$file.XXXXXX")
	{
		if [ -e "$file" ]; then grep -v "^$name=" "$file" || true; fi
		printf "%s='%s'\n" "$name" "$value"
	} >"$new"
	mv "$new" "$file"
}

# secret: prints a random password of letters and digits.
secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
