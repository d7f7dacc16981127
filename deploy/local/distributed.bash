# Configurations for sluice serve -c on the servers of DIR, for one process or, with Redis and RocketMQ, for several.
# shellcheck shell=bash

# distributed_yaml DIR: writes DIR/distributed.yaml and the secrets that it names, unless MariaDB is down. Fast stock lies
# in the Redis alone, if it is up, else in the cluster, else in memory; DIR/distributed-cluster.yaml is the same with the
# cluster, if that is up. One of them at a time: they share the shards. (The pair of DIR/redis-replica is for tests:
# a start refuses it, as it has min-replicas-to-write 0.)
distributed_yaml() {
	local dir=$1 secret
	rm -f "$dir"/distributed{,-cluster}.yaml
	running "$dir/mariadb/pid" mariadbd || return 0
	(umask 077 && mkdir -p "$dir/secrets" && cat "$dir/mariadb/password" >"$dir/secrets/store_password")
	for secret in jwt_secret ops_token service_token; do
		[ -s "$dir/secrets/$secret" ] || (umask 077 && secret >"$dir/secrets/$secret")
	done
	if running "$dir/redis-cluster/1/pid" redis-server; then
		distributed_file "$dir" distributed-cluster.yaml redis-cluster true "$dir"/redis-cluster/{1..6}
	fi
	if running "$dir/redis/pid" redis-server; then
		distributed_file "$dir" distributed.yaml redis false "$dir/redis"
	elif [ -e "$dir/distributed-cluster.yaml" ]; then
		cp "$dir/distributed-cluster.yaml" "$dir/distributed.yaml"
	else
		distributed_file "$dir" distributed.yaml ""
	fi
	say "a configuration, ready to be used: bin/sluice serve --demo -c $dir/distributed.yaml"
}

# distributed_file DIR FILE GROUP CLUSTER SERVER...: GROUP has the password of the Redis servers; none: memstock.
distributed_file() {
	local dir=$1 group=$3 port server addrs=() new secret in_flight=2
	port=$(cat "$dir/mariadb/port")
	for server in "${@:5}"; do addrs+=("127.0.0.1:$(cat "$server/port")"); done
	[ -z "$group" ] || (umask 077 && cat "$dir/$group/password" >"$dir/secrets/${group//-/_}_password")
	new=$(umask 077 && mktemp "$dir/$2.XXXXXX")
	{
		cat <<-YAML
			# Written by deploy/local/up, which writes it anew each time: copy it to change it. configs/distributed.yaml explains it.
			data_dir: "$dir/data"
			store:
			  dialect: mysql
			  shards:
			    - sluice@tcp(127.0.0.1:$port)/sluice_0
			    - sluice@tcp(127.0.0.1:$port)/sluice_1
			    - sluice@tcp(127.0.0.1:$port)/sluice_2
			    - sluice@tcp(127.0.0.1:$port)/sluice_3
		YAML
		if running "$dir/rocketmq/broker.pid" java; then
			cat <<-YAML
				queue:
				  driver: rocketqueue
				  rocketqueue:
				    name_servers: ["127.0.0.1:$(cat "$dir/rocketmq/namesrv.port")"]
			YAML
			in_flight=1 # a message is dear, and its way is short: the fewer, the better
		else
			echo 'queue: {driver: sqlitequeue}'
		fi
		if [ -n "$group" ]; then
			cat <<-YAML
				engine: {in_flight: $in_flight}
				stock:
				  driver: redisstock
				  redisstock:
				    addrs: [$(IFS=, && printf '%s' "${addrs[*]}")]
				    cluster: $4
			YAML
		fi
		echo 'secrets:'
		for secret in jwt_secret ops_token service_token store_password; do
			printf '  %s_file: "%s"\n' "$secret" "$dir/secrets/$secret"
		done
		[ -z "$group" ] || printf '  redis_password_file: "%s"\n' "$dir/secrets/${group//-/_}_password"
	} >"$new"
	mv "$new" "$dir/$2"
}
