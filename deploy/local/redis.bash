# Private Redis servers on free loopback ports, each with a password and its data in an append-only file: one alone in
# DIR/redis, a master and its replica in DIR/redis-replica/{1,2}, and a cluster of three masters and three replicas in
# DIR/redis-cluster/{1..6}. Each server's directory has its redis.conf, log, pid and port; passwords are in no argument.
# shellcheck shell=bash

# A master that nobody follows any more must have stopped to sell when another begins.
redis_with_replicas=("min-replicas-to-write 1" "min-replicas-max-lag 10")

redis_up() {
	redis_password "$1/redis"
	redis_start "$1/redis" "$1/redis"
	set_env "$1/env" SLUICE_TEST_REDIS "$(redis_url "$1/redis" "$1/redis")"
}

redis_down() { stop redis-server "$1/redis/pid"; }

redis_replica_up() {
	local dir=$1/redis-replica port
	redis_password "$dir"
	redis_start "$dir" "$dir/1" "${redis_with_replicas[@]}"
	port=$(cat "$dir/1/port")
	redis_start "$dir" "$dir/2" "${redis_with_replicas[@]}" "replicaof 127.0.0.1 $port"
	# A test may have changed the roles, and the master may have another port now. No change otherwise.
	redis_ask "$dir" "$dir/1" replicaof no one >/dev/null
	redis_ask "$dir" "$dir/2" replicaof 127.0.0.1 "$port" >/dev/null
	redis_wait "$dir" "$dir/2" master_link_status:up info replication || die "the replica does not follow; see $dir/2/log"
	redis_wait "$dir" "$dir/1" min_slaves_good_slaves:1 info replication || die "the master does not see its replica; see $dir/1/log"
	set_env "$1/env" SLUICE_TEST_REDIS_REPLICA "$(redis_url "$dir" "$dir/1"),$(redis_url "$dir" "$dir/2")"
}

redis_replica_down() { stop redis-server "$1"/redis-replica/{1,2}/pid; }

redis_cluster_up() {
	local dir=$1/redis-cluster node urls=()
	redis_password "$dir"
	if [ ! -e "$dir/created" ]; then
		redis_cluster_down "$1"
		rm -rf "$dir"/{1..6} # what was left half created
	fi
	for node in "$dir"/{1..6}; do
		redis_start "$dir" "$node" "${redis_with_replicas[@]}" "cluster-enabled yes" "cluster-config-file nodes.conf" "cluster-node-timeout 15000"
		urls+=("$(redis_url "$dir" "$node")")
	done
	[ -e "$dir/created" ] || redis_cluster_create "$dir"
	for node in "$dir"/{1..6}; do
		redis_wait "$dir" "$node" cluster_known_nodes:6 cluster info &&
			redis_wait "$dir" "$node" cluster_state:ok cluster info || die "the cluster is not whole; see $node/log"
	done
	for node in "$dir"/{1..3}; do
		# After a failover it may be a replica itself.
		redis_wait "$dir" "$node" min_slaves_good_slaves:1 info replication || redis_wait "$dir" "$node" role:slave info replication ||
			die "the master does not see its replica; see $node/log"
	done
	set_env "$1/env" SLUICE_TEST_REDIS_CLUSTER "$(IFS=, && printf '%s' "${urls[*]}")"
}

redis_cluster_down() { stop redis-server "$1"/redis-cluster/{1..6}/pid; }

# redis_cluster_create DIR: makes the six servers one cluster, and waits until each replica has its master's data.
redis_cluster_create() {
	local dir=$1 node nodes=()
	for node in "$dir"/{1..6}; do
		nodes+=("127.0.0.1:$(cat "$node/port")")
	done
	REDISCLI_AUTH=$(cat "$dir/password") redis-cli --cluster create "${nodes[@]}" --cluster-replicas 1 --cluster-yes \
		>"$dir/create.log" 2>&1 || die "the cluster was not created; see $dir/create.log"
	for node in "$dir"/{4..6}; do
		redis_wait "$dir" "$node" master_link_status:up info replication || die "the replica does not follow; see $node/log"
	done
	touch "$dir/created"
}

# redis_password DIR: makes the password of the servers in DIR, unless it is there.
redis_password() {
	need_package redis-server redis-server
	mkdir -p "$1"
	[ -s "$1/password" ] || (umask 077 && secret >"$1/password")
}

# redis_start GROUP DIR [LINE...]: starts the server of DIR unless it runs, with the password of GROUP and further lines
# of configuration.
redis_start() {
	local dir=$2 bus=10000 port
	mkdir -p "$dir"
	if running "$dir/pid" redis-server; then
		redis_wait "$1" "$dir" PONG ping || die "redis-server runs but does not answer; see $dir/log"
		return
	fi
	# A cluster's servers talk on a second port, greater by 10000.
	[ -s "$dir/port" ] || free_port $bus >"$dir/port"
	port=$(cat "$dir/port")
	if taken "$port" || taken $((port + bus)); then
		free_port $bus >"$dir/port" # somebody took it while we were down
		port=$(cat "$dir/port")
	fi
	(umask 077 && redis_config "$dir" "$port" "$(cat "$1/password")" "${@:3}" >"$dir/redis.conf")
	setsid redis-server "$dir/redis.conf" </dev/null >>"$dir/log" 2>&1 &
	redis_wait "$1" "$dir" PONG ping || die "redis-server did not start; see $dir/log"
}

# redis_config DIR PORT PASSWORD [LINE...]: what differs from the defaults.
redis_config() {
	cat <<-CONF
		bind 127.0.0.1
		port $2
		dir "$1"
		pidfile "$1/pid"
		logfile "$1/log"
		requirepass $3
		masterauth $3
		maxmemory 256mb
		maxmemory-policy noeviction
		save ""
		appendonly yes
		appendfsync everysec
		repl-diskless-sync-delay 0
	CONF
	[ $# = 3 ] || printf '%s\n' "${@:4}"
}

redis_url() { printf 'redis://:%s@127.0.0.1:%s/0\n' "$(cat "$1/password")" "$(cat "$2/port")"; }

# redis_ask GROUP DIR COMMAND...: one command to the server of DIR. A paused server does not answer.
redis_ask() {
	REDISCLI_AUTH=$(cat "$1/password") timeout 5 redis-cli -h 127.0.0.1 -p "$(cat "$2/port")" "${@:3}"
}

# redis_wait GROUP DIR LINE COMMAND...: waits until the answer to a command has a line, at most a minute.
redis_wait() {
	local answer end=$((SECONDS + 60))
	while [ $SECONDS -lt $end ]; do
		answer=$(redis_ask "$1" "$2" "${@:4}" 2>/dev/null | tr -d '\r') || true
		! grep -qxF -- "$3" <<<"$answer" || return 0
		sleep 0.1
	done
	return 1
}
