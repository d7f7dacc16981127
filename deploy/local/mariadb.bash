# Private MariaDB servers: one in DIR/mariadb and, for tests in which a single shard's server fails, two further ones in
# DIR/mariadb-2 and DIR/mariadb-3. Each has a free loopback port, little memory, and every commit on disk. With
# SLUICE_LOCAL_MARIADB_SIZE, such as 2G, the first has a buffer pool and a log of that size, as for a benchmark; with
# SLUICE_LOCAL_MARIADB_BINLOG=off there is no binary log.
# shellcheck shell=bash

mariadb_up() {
	mariadb_start "$1/mariadb" "${SLUICE_LOCAL_MARIADB_SIZE:-128M}"
	set_env "$1/env" SLUICE_TEST_MYSQL "$(mariadb_dsn "$1/mariadb")"
}

mariadb_down() { stop mariadbd "$1/mariadb/pid"; }

mariadb_shards_up() {
	mariadb_up "$1"
	mariadb_start "$1/mariadb-2" 64M
	mariadb_start "$1/mariadb-3" 64M
	set_env "$1/env" SLUICE_TEST_MYSQL_SHARDS \
		"$(mariadb_dsn "$1/mariadb") $(mariadb_dsn "$1/mariadb-2") $(mariadb_dsn "$1/mariadb-3")"
}

mariadb_shards_down() { stop mariadbd "$1"/mariadb-{2,3}/pid; }

# mariadb_start DIR SIZE: starts the server of DIR unless it runs; its buffer pool and its log have SIZE.
mariadb_start() {
	local dir=$1 port password fresh=
	need_package mariadbd mariadb-server
	mkdir -p "$dir"
	if running "$dir/pid" mariadbd; then
		mariadb_ready "$dir" || die "mariadbd runs but does not answer; see $dir/error.log"
		[ -z "${SLUICE_LOCAL_MARIADB_SIZE:-}" ] || grep -qx "innodb_buffer_pool_size = $2" "$dir/my.cnf" ||
			die "mariadbd runs with another size than $2: stop it with down first"
		return
	fi
	[ -s "$dir/port" ] || free_port >"$dir/port"
	[ -s "$dir/password" ] || (umask 077 && secret >"$dir/password")
	port=$(cat "$dir/port")
	if taken "$port"; then
		free_port >"$dir/port" # somebody took it while we were down
		port=$(cat "$dir/port")
	fi
	if [ ! -e "$dir/installed" ]; then
		fresh=1
		rm -rf "$dir/data"
		mkdir "$dir/data"
	fi
	mariadb_config "$dir" "$port" "$2" >"$dir/my.cnf"
	if [ -n "$fresh" ]; then
		mariadb-install-db --defaults-file="$dir/my.cnf" --auth-root-authentication-method=normal \
			--skip-test-db >"$dir/install.log" 2>&1 || die "mariadb-install-db failed; see $dir/install.log"
		touch "$dir/installed"
	fi
	setsid mariadbd --defaults-file="$dir/my.cnf" </dev/null >>"$dir/error.log" 2>&1 &
	mariadb_ready "$dir" || die "mariadbd did not start; see $dir/error.log"
	password=$(cat "$dir/password")
	mariadb_sql "$dir" <<-SQL
		CREATE USER IF NOT EXISTS 'sluice'@'127.0.0.1' IDENTIFIED BY '$password';
		GRANT ALL ON \`sluice\_%\`.* TO 'sluice'@'127.0.0.1';
		GRANT PROCESS ON *.* TO 'sluice'@'127.0.0.1';
		CREATE DATABASE IF NOT EXISTS sluice_0;
		CREATE DATABASE IF NOT EXISTS sluice_1;
		CREATE DATABASE IF NOT EXISTS sluice_2;
		CREATE DATABASE IF NOT EXISTS sluice_3;
	SQL
}

# mariadb_config DIR PORT SIZE: what differs from the defaults. The socket lies in /tmp: its path may have 107 bytes only.
mariadb_config() {
	local user
	user=$(id -un)
	cat <<-CNF
		[mariadbd]
		user = $user
		datadir = $1/data
		pid-file = $1/pid
		socket = $(mariadb_socket "$1")
		log-error = $1/error.log
		bind-address = 127.0.0.1
		port = $2
		skip-name-resolve
		character-set-server = utf8mb4
		collation-server = utf8mb4_bin
		max_connections = 500
		max_allowed_packet = 64M
		table_open_cache = 1000
		innodb_buffer_pool_size = $3
		innodb_log_file_size = $3
		innodb_flush_log_at_trx_commit = 1
		performance_schema = OFF
		server-id = 1
	CNF
	[ "${SLUICE_LOCAL_MARIADB_BINLOG:-on}" = on ] || return 0
	cat <<-CNF
		log-bin = binlog
		binlog_format = ROW
		sync_binlog = 1
		max_binlog_size = 64M
		expire_logs_days = 1
	CNF
}

mariadb_socket() { printf '/tmp/sluice-mariadb-%s.sock\n' "$(printf '%s' "$1" | cksum | cut -d' ' -f1)"; }

mariadb_sql() { mariadb --no-defaults --socket="$(mariadb_socket "$1")" --user=root "${@:2}"; }

# mariadb_ready DIR: waits until it answers, at most a minute.
mariadb_ready() {
	for _ in $(seq 600); do
		mariadb_sql "$1" --connect-timeout=5 --execute='SELECT 1' >/dev/null 2>&1 && return
		sleep 0.1
	done
	return 1
}

# mariadb_dsn DIR: what the name of a database is put behind.
mariadb_dsn() { printf 'sluice:%s@tcp(127.0.0.1:%s)/\n' "$(cat "$1/password")" "$(cat "$1/port")"; }
