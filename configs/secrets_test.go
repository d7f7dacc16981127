package configs_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sluice/configs"
	"sluice/gateway/ops"
)

func TestSecretsAreGeneratedOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	c, err := load(configs.Source{Set: []string{"data_dir=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.LoadSecrets(nil, false); err != nil || s.JWT != "" {
		t.Fatalf("nothing may be generated yet: %+v, %v", s, err)
	}
	first, err := c.LoadSecrets(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "secrets.yaml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("secrets.yaml: %v, %v", info, err)
	}
	if len(first.JWT) < 32 || len(first.OpsToken) < 32 || first.ServiceToken == first.OpsToken || !first.Generated {
		t.Errorf("weak secrets: %+v", first)
	}
	second, err := c.LoadSecrets(nil, true)
	if err != nil || !reflect.DeepEqual(second, first) {
		t.Errorf("secrets changed: %+v, %v, want %+v", second, err, first)
	}
	env := []string{"SLUICE_OPS_TOKEN=from-the-environment"}
	third, err := c.LoadSecrets(env, true)
	if err != nil || third.OpsToken != "from-the-environment" || third.JWT != first.JWT {
		t.Errorf("the environment must win over the file for what it sets: %+v, %v", third, err)
	}
}

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	jwt := write(t, "jwt", " 0123456789abcdef0123456789abcdef\n")
	env := []string{"SLUICE_OPS_TOKEN=0123456789abcdef", "SLUICE_SERVICE_TOKEN=0123456789abcdef-"}
	c, err := load(configs.Source{Set: []string{"secrets.jwt_secret_file=" + jwt, "gateway.listen=0.0.0.0:80", "data_dir=/nowhere/at/all"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.LoadSecrets(env, true)
	if err != nil || s.JWT != "0123456789abcdef0123456789abcdef" || s.Generated {
		t.Errorf("%+v, %v", s, err)
	}
}

// A key is rolled out behind the one that signs, then goes in front of it, then stays alone.
func TestSeveralJWTSecrets(t *testing.T) {
	t.Parallel()
	first, second := strings.Repeat("1", 32), strings.Repeat("2", 40)
	file := write(t, "jwt", first+"\n"+second+"\n")
	for _, c := range []struct{ set, env string }{
		{"secrets.jwt_secret_file=" + file, ""}, {"log.level=info", "SLUICE_JWT_SECRET=" + first + "," + second},
	} {
		config, err := load(configs.Source{Set: []string{c.set, "data_dir=" + t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := config.LoadSecrets([]string{c.env}, true)
		if err != nil || s.JWT != first || !slices.Equal(config.GatewayOptions(s).JWTSecrets, []string{first, second}) {
			t.Errorf("%v: %+v, %v", c, s, err)
		}
	}
}

func TestSecretMistakes(t *testing.T) {
	t.Parallel()
	empty := write(t, "empty", "\n")
	for _, c := range []struct {
		set, env, want string
	}{
		{"gateway.listen=0.0.0.0:80", "", "gateway.listen is 0.0.0.0:80, which other machines can reach: set SLUICE_JWT_SECRET, SLUICE_OPS_TOKEN, SLUICE_SERVICE_TOKEN"},
		{"ops.listen=:81", "", "ops.listen is :81, which other machines can reach"},
		{"gateway.listen=192.168.1.1:80", "SLUICE_JWT_SECRET=0123456789abcdef0123456789abcdef", "set SLUICE_OPS_TOKEN, SLUICE_SERVICE_TOKEN"},
		{"log.level=info", "SLUICE_JWT_SECRET=short", "SLUICE_JWT_SECRET must have at least 32 characters"},
		{"log.level=info", "SLUICE_JWT_SECRET=0123456789abcdef0123456789abcdef,short", "SLUICE_JWT_SECRET must have at least 32 characters"},
		{"log.level=info", "SLUICE_JWT_SECRET=,", "SLUICE_JWT_SECRET holds no secret"},
		{"log.level=info", "SLUICE_OPS_TOKEN=0123456789abcdef short", "SLUICE_OPS_TOKEN must have at least 16 characters"},
		{"log.level=info", "SLUICE_OPS_TOKEN=alice:short", "SLUICE_OPS_TOKEN must have at least 16 characters"},
		{"log.level=info", "SLUICE_OPS_TOKEN=al!ce:0123456789abcdef", "what stands before a colon is a token's name: 1 to 32 letters"},
		{"log.level=info", "SLUICE_SERVICE_TOKEN=0123456789abcdef\u00e9", "SLUICE_SERVICE_TOKEN must be visible ASCII"},
		{"log.level=info", "SLUICE_STORE_PASSWORD=with a space", "SLUICE_STORE_PASSWORD must be visible ASCII"},
		{"secrets.ops_token_file=/nowhere", "", "secrets.ops_token_file: open /nowhere"},
		{"secrets.ops_token_file=" + empty, "", "is empty"},
	} {
		config, err := load(configs.Source{Set: []string{c.set, "data_dir=" + t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = config.LoadSecrets([]string{c.env}, true)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s:\n got %v\nwant %s", c.set, c.env, err, c.want)
		}
	}
	for _, local := range []string{"127.0.0.1:1", "localhost:1", "[::1]:1"} {
		config, err := load(configs.Source{Set: []string{"gateway.listen=" + local, "data_dir=" + t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.LoadSecrets(nil, true); err != nil {
			t.Errorf("%s is a loopback address: %v", local, err)
		}
	}
}

// Tokens may be several, and those of the ops listener may have names.
func TestSeveralTokens(t *testing.T) {
	t.Parallel()
	tokens := write(t, "ops", "alice:"+strings.Repeat("a", 16)+"\n"+strings.Repeat("b", 16)+"\n")
	c, err := load(configs.Source{Set: []string{"secrets.ops_token_file=" + tokens, "data_dir=" + t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.LoadSecrets([]string{"SLUICE_SERVICE_TOKEN=" + strings.Repeat("1", 16) + "," + strings.Repeat("2", 16)}, true)
	want := []ops.Token{{Name: "alice", Secret: strings.Repeat("a", 16)}, {Secret: strings.Repeat("b", 16)}}
	if err != nil || s.OpsToken != want[0].Secret || !slices.Equal(s.OpsTokens, want) ||
		!slices.Equal(c.GatewayOptions(s).ServiceTokens, []string{strings.Repeat("1", 16), strings.Repeat("2", 16)}) {
		t.Errorf("%+v, %v", s, err)
	}
}

// What is read again and is wrong stays as it was, what is right is taken, and no word of it says a secret.
func TestReread(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	jwt, password := write(t, "jwt", strings.Repeat("1", 32)), write(t, "password", "former")
	c, err := load(configs.Source{Set: []string{"secrets.jwt_secret_file=" + jwt, "secrets.redis_password_file=" + password, "data_dir=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"SLUICE_SERVICE_TOKEN=0123456789abcdef"}
	first, err := c.LoadSecrets(env, true)
	if err != nil {
		t.Fatal(err)
	}
	put := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reread := func(last *configs.Secrets, want string, changed ...string) *configs.Secrets {
		t.Helper()
		next, err := c.RereadSecrets(env, last)
		if got := last.Changed(next); !slices.Equal(got, changed) {
			t.Errorf("changed %v, want %v", got, changed)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("a secret is told: %v", err)
		}
		return next
	}
	same := reread(first, "")
	if same.JWT != first.JWT || same.OpsToken != first.OpsToken || same.ServiceToken != first.ServiceToken {
		t.Errorf("%+v, %+v", first, same)
	}
	put(jwt, "hidden-and-short")
	put(password, "later")
	later := reread(first, jwt+" must have at least 32 characters", "redis_password")
	if later.JWT != first.JWT || later.RedisPassword != "later" {
		t.Errorf("%+v", later)
	}
	put(jwt, "")
	reread(later, jwt+" is empty")
	if err := os.Remove(jwt); err != nil {
		t.Fatal(err)
	}
	reread(later, "secrets.jwt_secret_file: open ")
	put(jwt, strings.Repeat("1", 32))
	own := filepath.Join(dir, "secrets.yaml")
	put(own, "ops_token: [hidden\n")
	reread(later, "secrets.yaml is not YAML")
	put(own, "# nothing\n")
	if last := reread(later, "ops_token is not in "+own); last.OpsToken != first.OpsToken {
		t.Errorf("%+v", last)
	}
	if last := reread(reread(later, "ops_token is not in "+own), "ops_token is not in "+own); last.OpsToken != first.OpsToken {
		t.Errorf("%+v", last)
	}
	put(own, "ops_token: hidden-0123456789\n")
	if last := reread(later, "", "ops_token"); last.OpsToken != "hidden-0123456789" {
		t.Errorf("%+v", last)
	}
}

// One secret in secrets.yaml that is not right keeps none of those behind it from being taken, and a start from writing over it.
func TestSecretsOfOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := load(configs.Source{Set: []string{"data_dir=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.LoadSecrets(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	own, text := filepath.Join(dir, "secrets.yaml"), "jwt_secret: hidden-and-short\nops_token: 0123456789abcdef\n"
	if err := os.WriteFile(own, []byte(text+"service_token: fedcba9876543210\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := c.RereadSecrets(nil, first)
	if err == nil || !strings.Contains(err.Error(), own+": jwt_secret must have at least 32 characters") {
		t.Error(err)
	}
	if next.JWT != first.JWT || next.OpsToken != "0123456789abcdef" || next.ServiceToken != "fedcba9876543210" {
		t.Errorf("%+v", next)
	}
	if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.LoadSecrets(nil, true); err == nil {
		t.Error("a secret that is too short is taken")
	}
	if b, err := os.ReadFile(own); err != nil || string(b) != text {
		t.Errorf("%v\n%s", err, b)
	}
}

// What a person should know of the files is said; nothing is said of files that are as they should be.
func TestSecretWarnings(t *testing.T) {
	t.Parallel()
	file := write(t, "password", "x")
	c, err := load(configs.Source{Set: []string{"secrets.store_password_file=" + file, "data_dir=" + t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"SLUICE_OPS_TOKEN=x", "SLUICE_STORE_PASSWORD="}
	if list := c.SecretWarnings(env); len(list) > 0 {
		t.Errorf("%q", list)
	}
	key := write(t, "key", "x")
	for _, f := range []string{file, key} {
		if err := os.Chmod(f, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list := c.SecretWarnings([]string{"SLUICE_STORE_PASSWORD=y"}, key)
	if len(list) != 3 || !strings.HasPrefix(list[0], file+" can be read by everybody on this machine (mode 0644)") || !strings.HasPrefix(list[1], key) ||
		!strings.HasPrefix(list[2], "SLUICE_STORE_PASSWORD is set, so secrets.store_password_file is not looked at") {
		t.Errorf("%q", list)
	}
}
