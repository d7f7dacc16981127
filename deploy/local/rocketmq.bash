# A private RocketMQ in DIR/rocketmq: a name server and one broker, on free loopback ports, every message on disk before it
# is confirmed. DIR/rocketmq has their files, namesrv.* and broker.*: conf, out, pid and port; their logs lie in logs below
# it. The jars come from Maven Central once per version, into the user's cache. RocketMQ opens the broker's replication port
# (its port + 1, unused) on every address, and no setting changes that: where it matters, a firewall has to.
# shellcheck shell=bash

rocketmq_up() {
	local dir=$1/rocketmq jars
	mkdir -p "$dir"
	jars=$(rocketmq_jars)
	rocketmq_start "$dir" namesrv "$jars" org.apache.rocketmq.namesrv.NamesrvStartup -Xms64m -Xmx128m -XX:+UseSerialGC
	rocketmq_start "$dir" broker "$jars" org.apache.rocketmq.broker.BrokerStartup -Xms128m -Xmx512m -XX:MaxDirectMemorySize=512m \
		-Drocketmq.broker.diskSpaceWarningLevelRatio=0.98
	set_env "$1/env" SLUICE_TEST_ROCKETMQ "127.0.0.1:$(cat "$dir/namesrv.port")"
	set_env "$1/env" SLUICE_TEST_ROCKETMQ_BROKER "127.0.0.1:$(cat "$dir/broker.port")"
}

# They are killed: an orderly stop takes the broker some 20 s. What it has confirmed is on disk; the next start delivers
# what consumers took in the last second again, which they have to expect of any queue.
rocketmq_down() { rocketmq_kill "$1"/rocketmq/{broker,namesrv}.pid; }

# rocketmq_kill PIDFILE...
rocketmq_kill() {
	local file
	for file in "$@"; do signal KILL java "$file"; done
	stop java "$@"
}

# rocketmq_jars: prints the directory of the jars, which it fills at the first time.
rocketmq_jars() {
	local pom=$here/rocketmq/pom.xml cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice version jars new
	version=$(sed -n 's|.*<rocketmq.version>\(.*\)</.*|\1|p' "$pom")
	jars=$cache/rocketmq-$version
	need_package java default-jre-headless
	if [ ! -e "$jars" ]; then
		need_package mvn maven
		mkdir -p "$cache"
		say "fetching RocketMQ $version into $jars"
		new=$(mktemp -d "$jars.XXXXXX")
		# One at a time: Maven's own cache does not bear two.
		flock "$cache" mvn -q -B -C -f "$pom" dependency:copy-dependencies -DoutputDirectory="$new" >&2 ||
			{ rm -rf "$new"; die "Maven could not fetch it"; }
		mv -T "$new" "$jars" 2>/dev/null || rm -rf "$new" # somebody else has
	fi
	printf '%s\n' "$jars"
}

# rocketmq_start DIR SERVER JARS CLASS FLAG...: starts the name server or the broker of DIR unless it runs.
rocketmq_start() {
	local dir=$1 server=$2 jars=$3 class=$4
	if running "$dir/$server.pid" java; then
		rocketmq_ready "$dir" "$server" || die "the $server of RocketMQ runs but does not answer; see $dir/$server.out"
		return
	fi
	"rocketmq_${server}_port" "$dir"
	"rocketmq_${server}_config" "$dir" >"$dir/$server.conf"
	(
		cd "$dir"
		ROCKETMQ_HOME=$dir exec setsid java "${@:5}" -Duser.home="$dir" -Djava.net.preferIPv4Stack=true "${rocketmq_opens[@]}" \
			-Drmq.logback.configurationFile="rmq.$server.logback.xml" -cp "$jars/*" "$class" -c "$dir/$server.conf"
	) </dev/null >"$dir/$server.out" 2>&1 &
	echo $! >"$dir/$server.pid"
	rocketmq_ready "$dir" "$server" || die "the $server of RocketMQ did not start; see $dir/$server.out"
}

# What RocketMQ uses of the Java runtime's own.
rocketmq_opens=(--add-exports=java.base/{sun.nio.ch,jdk.internal.ref}=ALL-UNNAMED
	--add-opens=java.base/{sun.nio.ch,java.nio,java.lang,java.util}=ALL-UNNAMED)

# rocketmq_namesrv_port DIR: leaves a free port in a file. A broker that knows another one is ended.
rocketmq_namesrv_port() {
	[ ! -s "$1/namesrv.port" ] || taken "$(cat "$1/namesrv.port")" || return 0
	free_port >"$1/namesrv.port"
	rocketmq_kill "$1/broker.pid"
}

# rocketmq_broker_port DIR: the same. The broker takes the port, the one less by 2 and the one greater by 1.
rocketmq_broker_port() {
	local port
	port=$(cat "$1/broker.port" 2>/dev/null) || port=$(($(free_port 3) + 2))
	while taken "$port" || taken $((port - 2)) || taken $((port + 1)); do port=$(($(free_port 3) + 2)); done
	echo "$port" >"$1/broker.port"
}

rocketmq_namesrv_config() {
	cat <<-CONF
		bindAddress=127.0.0.1
		listenPort=$(cat "$1/namesrv.port")
	CONF
}

# rocketmq_broker_config DIR: what differs from the defaults. Messages are kept for a week, read or not, and never deleted
# earlier to make room; files are small.
rocketmq_broker_config() {
	local port
	port=$(cat "$1/broker.port")
	cat <<-CONF
		brokerClusterName=sluice
		brokerName=broker-a
		brokerId=0
		bindAddress=127.0.0.1
		brokerIP1=127.0.0.1
		brokerIP2=127.0.0.1
		listenPort=$port
		haListenPort=$((port + 1))
		namesrvAddr=127.0.0.1:$(cat "$1/namesrv.port")
		storePathRootDir=$1/store
		storePathCommitLog=$1/store/commitlog
		brokerRole=ASYNC_MASTER
		flushDiskType=SYNC_FLUSH
		autoCreateTopicEnable=false
		autoCreateSubscriptionGroup=true
		fileReservedTime=168
		cleanFileForciblyEnable=false
		mappedFileSizeCommitLog=67108864
		mappedFileSizeConsumeQueue=1200000
		mappedFileSizeTimerLog=8388608
		messageIndexEnable=false
		timerFlushIntervalMs=60000
		flushConsumerOffsetInterval=1000
		serverChannelMaxIdleTimeSeconds=45
		maxMessageSize=4194304
		maxTransferCountOnMessageInMemory=1024
		maxTransferCountOnMessageInDisk=1024
		maxTransferBytesOnMessageInMemory=4194304
		maxTransferBytesOnMessageInDisk=4194304
		waitTimeMillsInSendQueue=1000
		sendMessageThreadPoolNums=2
		pullMessageThreadPoolNums=4
	CONF
}

# rocketmq_ready DIR SERVER: waits until it serves, at most two minutes.
rocketmq_ready() {
	for _ in $(seq 600); do
		kill -0 "$(cat "$1/$2.pid")" 2>/dev/null || return 1
		! grep -q "boot success" "$1/$2.out" || ! taken "$(cat "$1/$2.port")" || return 0
		sleep 0.2
	done
	return 1
}
