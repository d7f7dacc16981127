// Package rocketmqtest starts a real RocketMQ of a test's own, a name server and one broker, which it may then kill, pause
// and rob of the end of its log. Nothing of it is in the program. They listen on the loopback interface (but for the
// broker's replication port, which no setting can bind), flush every message to disk, and end with the test, or with the
// test's process however that ends. The jars are those that deploy/local/up DIR rocketmq has fetched.
//
// # Goroutines
//
// One per server that runs: processtest's.
package rocketmqtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/processtest"
)

// RocketMQ is a name server and a broker. Its methods end the test when they fail; they are for one goroutine.
type RocketMQ struct {
	NameServer *Server
	Broker     *Server
	Dir        string // of the store, the files and the logs

	t testing.TB
}

// Server is one of the two.
type Server struct {
	Addr string // host:port, the same for all its lives

	*processtest.Process
	name string
	r    *RocketMQ
}

const waitMax = 2 * time.Minute

// Start starts both, with further lines for the broker's configuration; the last of two counts. Where there is no Java, or
// nobody has fetched the jars, the test is skipped; in CI that is a failure.
func Start(t testing.TB, lines ...string) *RocketMQ {
	t.Helper()
	jars := jars(t)
	r := &RocketMQ{Dir: t.TempDir(), t: t}
	r.NameServer = r.server("namesrv", processtest.FreeAddr(t), jars, "org.apache.rocketmq.namesrv.NamesrvStartup", "-Xms64m", "-Xmx128m")
	r.Broker = r.server("broker", processtest.FreeAddr(t, -2, 1), jars, "org.apache.rocketmq.broker.BrokerStartup", "-Xms128m", "-Xmx256m",
		"-XX:MaxDirectMemorySize=256m", "-Drocketmq.broker.diskSpaceWarningLevelRatio=0.98")
	r.write("namesrv.conf", "bindAddress=127.0.0.1", "listenPort="+port(r.NameServer.Addr))
	r.write("broker.conf", append(r.brokerConfig(), lines...)...)
	r.NameServer.Start()
	r.Broker.Start()
	return r
}

// jars is the directory that deploy/local fills.
func jars(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, _ := filepath.Glob(filepath.Join(cache, "sluice", "rocketmq-*", "rocketmq-broker-*.jar"))
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	if os.Getenv("SLUICE_CI") == "1" {
		t.Fatal("there are no jars of RocketMQ, and in CI nothing is skipped")
	}
	t.Skip("there are no jars of RocketMQ: deploy/local/up DIR rocketmq fetches them")
	return ""
}

func (r *RocketMQ) server(name, addr, jars, class string, flags ...string) *Server {
	r.t.Helper()
	if _, err := exec.LookPath("java"); err != nil {
		processtest.New(r.t, "default-jre-headless", "java") // says so
	}
	java := append(flags, "-XX:+UseSerialGC", "-Duser.home="+r.Dir, "-Djava.net.preferIPv4Stack=true",
		"-Drmq.logback.configurationFile=rmq."+name+".logback.xml")
	for _, pkg := range []string{"sun.nio.ch", "jdk.internal.ref"} {
		java = append(java, "--add-exports=java.base/"+pkg+"=ALL-UNNAMED")
	}
	for _, pkg := range []string{"sun.nio.ch", "java.nio", "java.lang", "java.util"} {
		java = append(java, "--add-opens=java.base/"+pkg+"=ALL-UNNAMED")
	}
	java = append(java, "-cp", jars+"/*", class, "-c", filepath.Join(r.Dir, name+".conf"))
	script := `cd "$0" && ROCKETMQ_HOME=$0 exec java "$@" >` + name + ".out 2>&1"
	process := processtest.New(r.t, "default-jre-headless", append([]string{"sh", "-c", script, r.Dir}, java...)...)
	return &Server{Addr: addr, Process: process, name: name, r: r}
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func (r *RocketMQ) write(name string, lines ...string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.Dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// brokerConfig is as deploy/local has it.
func (r *RocketMQ) brokerConfig() []string {
	number, err := strconv.Atoi(port(r.Broker.Addr))
	if err != nil {
		r.t.Fatal(err)
	}
	store := filepath.Join(r.Dir, "store")
	return []string{"brokerClusterName=sluice", "brokerName=broker-a", "brokerId=0", "bindAddress=127.0.0.1", "brokerIP1=127.0.0.1",
		"brokerIP2=127.0.0.1", "listenPort=" + strconv.Itoa(number), "haListenPort=" + strconv.Itoa(number+1), "namesrvAddr=" + r.NameServer.Addr,
		"storePathRootDir=" + store, "storePathCommitLog=" + filepath.Join(store, "commitlog"), "brokerRole=ASYNC_MASTER", "flushDiskType=SYNC_FLUSH",
		"autoCreateTopicEnable=false", "autoCreateSubscriptionGroup=false", "fileReservedTime=168", "cleanFileForciblyEnable=false",
		"mappedFileSizeCommitLog=16777216", "mappedFileSizeConsumeQueue=1200000", "mappedFileSizeTimerLog=8388608", "timerWheelEnable=false",
		"messageIndexEnable=false", "flushConsumerOffsetInterval=200", "registerNameServerPeriod=10000", "waitTimeMillsInSendQueue=1000"}
}

// Start starts it, at its address and with what is in its directory, and waits until it serves.
func (s *Server) Start() {
	s.r.t.Helper()
	out := filepath.Join(s.r.Dir, s.name+".out")
	_ = os.Remove(out) // of its former life
	s.Launch()
	for end := time.Now().Add(waitMax); ; time.Sleep(20 * time.Millisecond) {
		said, _ := os.ReadFile(out)
		if bytes.Contains(said, []byte("boot success")) && accepts(s.Addr) {
			return
		}
		if !s.Runs() || time.Now().After(end) {
			s.r.t.Fatalf("the %s of RocketMQ does not start:\n%s", s.name, said)
		}
	}
}

func accepts(addr string) bool {
	c, err := net.Dial("tcp", addr)
	return err == nil && c.Close() == nil
}

// AwaitOffset waits until the broker has written down what a group has committed on a queue: what a kill leaves it.
func (r *RocketMQ) AwaitOffset(topic, group string, queue int, offset int64) {
	r.t.Helper()
	line := regexp.MustCompile(fmt.Sprintf(`"%s@%s":\{[^}]*\b%d:%d\b`, topic, group, queue, offset))
	for end := time.Now().Add(waitMax); ; time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(filepath.Join(r.Dir, "store", "config", "consumerOffset.json"))
		if line.Match(text) {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("the broker does not write down offset %d of %s: %s", offset, group, text)
		}
	}
}

// Deface changes the first byte of a text that some message holds, in the log of a broker that may be running: its next
// reader sees it. The text must be there once.
func (r *RocketMQ) Deface(text string) {
	r.t.Helper()
	file, at := r.find(text)
	r.overwrite(file, at, []byte{text[0] ^ 0xff})
}

// LoseFrom overwrites with zeros the log of a broker that is down, from the message that holds the text to its end: as if
// what was written last had not reached the disk.
func (r *RocketMQ) LoseFrom(text string) {
	r.t.Helper()
	file, at := r.find(text)
	data, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	// A message begins with its size and these four bytes.
	begin := int64(bytes.LastIndex(data[:at], []byte{0xda, 0xa3, 0x20, 0xa7})) - 4
	if begin < 0 {
		r.t.Fatalf("the message with %q has no beginning", text)
	}
	r.overwrite(file, begin, make([]byte, int64(len(data))-begin))
}

func (r *RocketMQ) find(text string) (file string, at int64) {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.Dir, "store", "commitlog", "*"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		for from := 0; ; {
			i := bytes.Index(data[from:], []byte(text))
			if i < 0 {
				break
			}
			if file != "" {
				r.t.Fatalf("%q is in the log twice", text)
			}
			file, at, from = name, int64(from+i), from+i+1
		}
	}
	if file == "" {
		r.t.Fatalf("%q is not in the log", text)
	}
	return file, at
}

func (r *RocketMQ) overwrite(file string, at int64, bytes []byte) {
	r.t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(bytes, at)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		r.t.Fatal(fmt.Errorf("change the log: %w", err))
	}
}
