# A configuration for sluice serve -c on the servers of DIR.
# shellcheck shell=bash

# distributed_yaml DIR: writes DIR/distributed.yaml and the secrets that it names, unless MariaDB is down.
distributed_yaml() {
	running "$1/mariadb/pid" mariadbd || return 0
	local port new stock= flights=1 secrets
	port=$(cat "$1/mariadb/port")
	new=$(umask 077 && mktemp "$1/distributed.yaml.XXXXXX")
	(umask 077 && mkdir -p "$1/secrets" && cat "$1/mariadb/password" >"$1/secrets/store_password")
	secrets="  store_password_file: \"$1/secrets/store_password\""
	if running "$1/redis/pid" redis-server; then
		(umask 077 && cat "$1/redis/password" >"$1/secrets/redis_password")
		secrets+=$'\n'"  redis_password_file: \"$1/secrets/redis_password\""
		stock=$(distributed_stock "$(cat "$1/redis/port")")
		flights=2 # while one batch is on its way to Redis and back, the next one gathers
	fi
	cat >"$new" <<-YAML
		# Written by deploy/local/up, which writes it anew each time.
		data_dir: "$1/data"
		engine:
		  in_flight: $flights
		store:
		  dialect: mysql
		  shards:
		    - sluice@tcp(127.0.0.1:$port)/sluice_0
		    - sluice@tcp(127.0.0.1:$port)/sluice_1
		    - sluice@tcp(127.0.0.1:$port)/sluice_2
		    - sluice@tcp(127.0.0.1:$port)/sluice_3
		queue:
		  driver: sqlitequeue
		${stock:-stock: {driver: memstock\}}
		secrets:
		$secrets
	YAML
	mv "$new" "$1/distributed.yaml"
}

distributed_stock() {
	cat <<-YAML
		stock:
		  driver: redisstock
		  redisstock:
		    addrs: ["127.0.0.1:$1"]
		    cluster: false
		    username: ""
	YAML
}
