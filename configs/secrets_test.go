package configs_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sluice/configs"
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
		{"log.level=info", "SLUICE_OPS_TOKEN=with a space in it here", "SLUICE_OPS_TOKEN must be visible ASCII"},
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
