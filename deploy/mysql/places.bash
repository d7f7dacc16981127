# Where a shard is, as backup and restore are told. Sourced; not run.
# shellcheck shell=bash

die() {
	printf '%s\n' "deploy/mysql: $*" >&2
	exit 1
}

# parse USER@HOST:PORT/DATABASE: sets user, host, port and database.
parse() {
	[[ $1 =~ ^([^@]+)@([^:/]+):([0-9]+)/([^/]+)$ ]] || die "$1 is not USER@HOST:PORT/DATABASE"
	# shellcheck disable=SC2034 # for who sources this
	user=${BASH_REMATCH[1]} host=${BASH_REMATCH[2]} port=${BASH_REMATCH[3]} database=${BASH_REMATCH[4]}
}

# client PLACE ARGS...: the command-line client at a shard; the password is in MYSQL_PWD.
client() {
	local user host port database
	parse "$1"
	"$(command -v mariadb || command -v mysql)" --host="$host" --port="$port" --protocol=tcp --user="$user" --batch --skip-column-names \
		--default-character-set=utf8mb4 "${@:2}" "$database"
}
