package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/configs"
)

// differs are the settings in which a deployment on several machines differs from configs/distributed.yaml.
var differs = regexp.MustCompile(`^(data_dir|ops\.listen|log\.format|gateway\.trusted_proxies|gateway\.limits\..*|store\.shards|` +
	`stock\.redisstock\.addrs|queue\.rocketqueue\.name_servers|secrets\..*)$`)

// deployed loads the configuration that stands in a file of deploy, which must be that of configs/distributed.yaml but for
// addresses.
func deployed(t *testing.T, text string) *configs.Config {
	t.Helper()
	load := func(content string) *configs.Config {
		file := filepath.Join(t.TempDir(), "distributed.yaml")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s := settings{file: file}
		c, _, err := s.load()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c, model := load(text), load(string(configs.Distributed()))
	for i, f := range model.Fields() {
		if other := c.Fields()[i]; !differs.MatchString(f.Path) && !reflect.DeepEqual(f.Value(), other.Value()) {
			t.Errorf("%s is %v, in configs/distributed.yaml %v", f.Path, other.Value(), f.Value())
		}
	}
	return c
}

// secretFiles are the settings that name a secret's file, with their values.
func secretFiles(c *configs.Config) map[string]string {
	files := map[string]string{}
	for _, f := range c.Fields() {
		if name, ok := strings.CutPrefix(f.Path, "secrets."); ok {
			files[strings.TrimSuffix(name, "_file")] = fmt.Sprint(f.Value())
		}
	}
	return files
}

// filesBelow expects that every secret is read from a file of its name below dir, and that the names are all there are but for
// redis_username: who has no ACL user leaves it out.
func filesBelow(t *testing.T, c *configs.Config, dir string, names []string) {
	t.Helper()
	files := secretFiles(c)
	if files["redis_username"] == "" {
		delete(files, "redis_username")
	}
	for name, file := range files {
		if file != dir+"/"+name {
			t.Errorf("secrets.%s_file is %q and the file is mounted at %s/%s", name, file, dir, name)
		}
		if !slices.Contains(names, name) {
			t.Errorf("nothing mounts %s, only %v", name, names)
		}
	}
	if len(names) != len(files) {
		t.Errorf("mounted are %v, and there are the secrets %v", names, files)
	}
}

func port(listen string) string { return listen[strings.LastIndexByte(listen, ':')+1:] }

// TestCompose: the configuration in deploy/compose.yaml is one of ours, and the file's ports, secrets and times are its.
func TestCompose(t *testing.T) {
	t.Parallel()
	f := documents(t, "compose.yaml")[0]
	c := deployed(t, f.at("configs", "distributed.yaml", "content").text())
	filesBelow(t, c, "/run/secrets", f.at("secrets").keys())
	roles := map[string]int{}
	for _, name := range f.at("services").keys() {
		s := f.at("services", name)
		if s.at("image").text() != "sluice" {
			continue
		}
		filesBelow(t, c, "/run/secrets", strings.Fields(strings.Trim(s.at("secrets").text(), "[]")))
		where := s.at("configs", 0, "target").text()
		role := servesAs(t, s.at("command"), where)
		roles[role]++
		if got := s.at("healthcheck", "test").text(); got != "[CMD /usr/local/bin/sluice health -c "+where+"]" {
			t.Errorf("%s: health check %s", name, got)
		}
		if grace := s.at("stop_grace_period").duration(); grace < stopWait+5*time.Second {
			t.Errorf("%s is killed %v after the signal, a stop takes %v at most", name, grace, stopWait)
		}
		if role == "gateway" {
			for i, listen := range []string{c.Gateway.Listen, c.Ops.Listen} {
				if p := s.at("ports", i).text(); port(p) != port(listen) || !strings.HasPrefix(p, "127.0.0.1:") {
					t.Errorf("%s: port %s for %s", name, p, listen)
				}
			}
		}
	}
	if !reflect.DeepEqual(roles, map[string]int{"gateway": 2, "persist": 1, "lifecycle": 1}) {
		t.Errorf("services by role: %v", roles)
	}
	for _, shard := range c.Store.Shards {
		database := shard[strings.LastIndexByte(shard, '/')+1:]
		if !strings.Contains(f.at("configs", "shards.sql", "content").text(), "IF NOT EXISTS "+database+";") {
			t.Errorf("nobody makes the database %s", database)
		}
	}
	sameBroker(t, f)
}

// servesAs is the role of a command line, which must be one that this program takes.
func servesAs(t *testing.T, args tree, file string) string {
	t.Helper()
	var words []string
	for _, arg := range args.list() {
		words = append(words, arg.text())
	}
	if len(words) != 5 || words[0] != "serve" || words[1] != "--role" || words[3] != "-c" || words[4] != file {
		t.Fatalf("%s: %v, and the configuration is %s", args.name, words, file)
	}
	isRole(t, words[2])
	return words[2]
}

// isRole: an unknown role is refused before anything else is looked at.
func isRole(t *testing.T, role string) {
	t.Helper()
	if _, _, err := cli(t, nil, "serve", "--role", role, "-c", "/no/such/file"); err == nil || !strings.Contains(err.Error(), "/no/such/file does not exist") {
		t.Errorf("role %s: %v", role, err)
	}
}

// sameBroker: RocketMQ in the containers is that of deploy/local, which is tested, but for paths, addresses and sizes.
func sameBroker(t *testing.T, f tree) {
	t.Helper()
	pom := regexp.MustCompile(`<rocketmq.version>(.*)</`).FindStringSubmatch(deployFile(t, "local/rocketmq/pom.xml"))
	if image := f.at("services", "broker", "image").text(); pom == nil || image != "apache/rocketmq:"+pom[1] || f.at("services", "namesrv", "image").text() != image {
		t.Errorf("image %s, and the jars are %v", image, pom)
	}
	line := regexp.MustCompile(`(?m)^\s*([a-z]\w+)=(\S+)$`)
	_, local, _ := strings.Cut(deployFile(t, "local/rocketmq.bash"), "\nrocketmq_broker_config() {")
	tested := map[string]string{}
	for _, m := range line.FindAllStringSubmatch(local, -1) {
		tested[m[1]] = m[2]
	}
	conf := line.FindAllStringSubmatch(f.at("configs", "broker.conf", "content").text(), -1)
	if len(conf) < 15 || len(tested) < 25 {
		t.Fatalf("%d and %d settings of the broker", len(conf), len(tested))
	}
	for _, m := range conf {
		own := regexp.MustCompile(`^(brokerIP1|listenPort|namesrvAddr|storePath.*)$`).MatchString(m[1])
		if !own && m[2] != tested[m[1]] {
			t.Errorf("broker.conf: %s=%s, in deploy/local/rocketmq.bash %q", m[1], m[2], tested[m[1]])
		}
	}
}

// TestSystemd: the variables of the unit and of its examples are settings, all secrets are handed over, and the ports are
// those of deploy/local/cluster.
func TestSystemd(t *testing.T) {
	t.Parallel()
	unit := deployFile(t, "systemd/sluice@.service")
	var environ, credentials []string
	for _, m := range regexp.MustCompile(`(?m)^Environment=(.*)$`).FindAllStringSubmatch(unit, -1) {
		environ = append(environ, strings.Fields(strings.NewReplacer("%d", "/run/credentials", "%S", "/var/lib", "%i", "x").Replace(m[1]))...)
	}
	for _, m := range regexp.MustCompile(`(?m)^LoadCredential=(\w+):/etc/sluice/secrets/(\w+)$`).FindAllStringSubmatch(unit, -1) {
		if m[1] != m[2] {
			t.Errorf("credential %s is %s", m[1], m[2])
		}
		credentials = append(credentials, m[1])
	}
	load := func(environ []string) *configs.Config {
		for _, e := range environ {
			if !strings.HasPrefix(e, "SLUICE_") {
				t.Errorf("%s is no setting", e)
			}
		}
		c, err := configs.Load(configs.Source{Env: environ, Mounts: newDrivers().mounts()})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := load(environ)
	filesBelow(t, c, "/run/credentials", credentials)
	if c.DataDir != "/var/lib/sluice/x" || !strings.Contains(unit, "\nStateDirectory=sluice/%i\n") {
		t.Errorf("data_dir is %s", c.DataDir)
	}
	if m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(unit); m == nil || m[1] < "35" {
		t.Errorf("a stop takes %v at most: %v", stopWait, m)
	}
	files, err := filepath.Glob("../../deploy/systemd/*.env")
	if err != nil || len(files) != 5 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	cluster := deployFile(t, "local/cluster")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".env")
		lines := strings.Fields(deployFile(t, "systemd/"+filepath.Base(file)))
		c := load(append(lines, environ...))
		if !strings.HasPrefix(name, c.Role) {
			t.Errorf("%s has the role %s", name, c.Role)
		}
		started := "\nstart " + name + " " + port(c.Ops.Listen)
		if c.Role == configs.RoleGateway {
			started += " " + port(c.Gateway.Listen)
		}
		if !strings.Contains(cluster, started) {
			t.Errorf("%s: deploy/local/cluster does not say%s", name, started)
		}
	}
}

// TestContainerfile: the image is built as the Makefile builds, by the Go of go.mod.
func TestContainerfile(t *testing.T) {
	t.Parallel()
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	file := deployFile(t, "Containerfile")
	flags := func(text string) string {
		m := regexp.MustCompile(`(?:CGO_ENABLED=0 |\t)(go build .* \./cmd/sluice)`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("nothing is built:\n%s", text)
		}
		return strings.ReplaceAll(m[1], "$(REVISION)", "$REVISION")
	}
	if image, local := flags(file), flags(read("../../Makefile")); image != local || !strings.Contains(file, "CGO_ENABLED=0 go build") {
		t.Errorf("%s\n%s", image, local)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read("../../go.mod"))
	if !strings.Contains(file, cmp.Or(version[1], "?")+"-bookworm AS build") {
		t.Errorf("go.mod says %v", version)
	}
}
