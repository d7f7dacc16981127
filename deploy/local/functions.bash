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

# free_port: prints a TCP port of the loopback interface that nobody listens on, below the range of outgoing connections.
free_port() {
	local port
	for _ in $(seq 200); do
		port=$((20000 + RANDOM % 10000))
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			printf '%s\n' "$port"
			return
		fi
	done
	die "found no free port"
}

# is PID NAME: whether a process lives and is called NAME (its pid may belong to another by now).
is() { [ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ]; }

# running PIDFILE NAME: whether the process of a pid file lives. It may take its file with it at any moment.
running() { is "$(cat "$1" 2>/dev/null)" "$2"; }

# stop PIDFILE NAME: ends a process and waits until it has gone, at most 30 s, then kills it.
stop() {
	local pid
	pid=$(cat "$1" 2>/dev/null) || return 0
	is "$pid" "$2" || return 0
	kill "$pid"
	for _ in $(seq 300); do
		is "$pid" "$2" || break
		sleep 0.1
	done
	if is "$pid" "$2"; then
		say "$2 ($pid) does not end: killed"
		kill -KILL "$pid"
	fi
	rm -f "$1"
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
