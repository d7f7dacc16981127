package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/bench/audit"
	"sluice/engine/order"
)

// TestShardsBackedUp is the order of restore of docs/operations.md, tried: MySQL shards are dumped at one moment while
// buyers are at it, all is lost, and the dumps go into other databases, with another queue and an emptied Redis. Whoever
// was told before the backup that his order is stored finds it, no unit is missing, and the server sells on.
func TestShardsBackedUp(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	_, shards := onMySQL(t)
	client, name, stock := onRedis(t)
	b := newBackedUp(t, append(append([]string{longLife}, stock...), shards...)...)
	b.awaitCalls(300)
	began := time.Now().UnixMicro()
	dir := filepath.Join(t.TempDir(), "backup")
	out := script(t, shards, "backup", dir)
	if !strings.Contains(out, "writers stood still for ") {
		t.Error(out)
	}
	t.Log(out)
	ended := time.Now().UnixMicro()
	b.awaitCalls(100)
	b.stop()
	b.judge(b.shop, "a backup") // nobody has noticed
	b.process.end(syscall.SIGKILL)

	databases, others := onMySQL(t)
	set := append(append([]string{longLife}, stock...), others...)
	if out := script(t, others, "restore", dir); !strings.Contains(out, "restored 2 shards") {
		t.Error(out)
	}
	data := filepath.Join(t.TempDir(), "another")
	adopt := func() (string, error) {
		out, _, err := cli(t, nil, append([]string{"queue", "adopt", "--yes", "--set", "data_dir=" + data, "--set", longD}, flagsOf(set)...)...)
		return out, err
	}
	if lines, ok := looked(t, data, set...); ok || !strings.Contains(strings.Join(lines, "\n"), "and there is none here yet") {
		t.Errorf("%v %q", ok, lines)
	}
	keys, err := client.Keys(t.Context(), name+":*").Result()
	if err == nil {
		err = client.Unlink(t.Context(), keys...).Err()
	}
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d keys in Redis, %v", len(keys), err)
	}
	if out, err := adopt(); err == nil || !strings.Contains(err.Error(), "has been running within the last minute") {
		t.Errorf("the backup is younger than a minute: %s %v", out, err)
	}
	if _, err := databases[0].Exec("UPDATE node SET until_at = LEAST(until_at, UNIX_TIMESTAMP(NOW(3)) * 1000)"); err != nil { // a minute goes by
		t.Fatal(err)
	}
	said, err := adopt()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(said)
	p := spawnWith(t, data, set)
	var entries []audit.Entry
	for _, e := range b.seen(began, ended) {
		if e.Code != 201 { // accepted, and perhaps in the queue only
			e.Code, e.Order = 0, 0
		}
		entries = append(entries, e)
	}
	p.auditedWith(entries)
	for user := order.UserID(1); user < 20; user++ {
		p.must(201, "POST", p.gateway+"/v1/orders?wait=10", p.token(user), line(b.goods[0][0], 1))
	}
	p.auditedWith(entries)
}

// script runs one of deploy/mysql with the shards of some settings.
func script(t *testing.T, set []string, name, dir string) string {
	t.Helper()
	args := []string{dir}
	for _, place := range strings.Split(strings.TrimPrefix(set[1], "store.shards="), ",") {
		args = append(args, strings.NewReplacer("@tcp(", "@", ")/", "/").Replace(place))
	}
	password, err := os.ReadFile(strings.TrimPrefix(set[2], "secrets.store_password_file="))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "../../deploy/mysql/"+name, args...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+string(password))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}
