package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/configs"
	"sluice/gateway"
	"sluice/internal/certtest"
)

// rotating is a server whose secrets are in files.
type rotating struct {
	*reloading
	dir string
}

// The secrets of these tests: letters tell whose they are, the last character the generation.
func hidden(letter string, generation string) string { return strings.Repeat(letter, 31) + generation }

func newRotating(t *testing.T) *rotating {
	t.Helper()
	r := &rotating{dir: t.TempDir()}
	r.reloading = &reloading{file: filepath.Join(r.dir, "sluice.yaml")}
	replace(t, r.file, waitMax(1))
	args := []string{"-c", r.file}
	for name, text := range map[string]string{"jwt_secret": hidden("j", "1"), "ops_token": "alice:" + hidden("o", "1"), "service_token": hidden("s", "1")} {
		replace(t, filepath.Join(r.dir, name), text)
		args = append(args, "--set", "secrets."+name+"_file="+filepath.Join(r.dir, name))
	}
	r.process = spawn(t, t.TempDir(), args...)
	r.secrets = &configs.Secrets{JWT: hidden("j", "1"), OpsToken: hidden("o", "1"), ServiceToken: hidden("s", "1")}
	return r
}

// put changes a secret's file.
func (r *rotating) put(name, text string) {
	r.t.Helper()
	replace(r.t, filepath.Join(r.dir, name), text)
}

// user is the status of a read with a buyer's token of a secret; shop that of one with a service token.
func (r *rotating) user(secret string) int {
	r.t.Helper()
	return r.status(r.gateway+"/v1/orders", gateway.MintToken(secret, 1, time.Now().Add(time.Hour)))
}

func (r *rotating) shop(token string) int {
	r.t.Helper()
	return r.status(r.gateway+"/v1/orders", token, "Sluice-User", "1")
}

func (r *rotating) operator(token string) int {
	r.t.Helper()
	return r.status(r.ops+"/ops/config", token)
}

func (r *rotating) status(url, token string, headers ...string) int {
	r.t.Helper()
	a, err := r.try("GET", url, token, "", headers...)
	if err != nil {
		r.t.Fatal(err)
	}
	return a.status
}

func (r *rotating) state() (s struct {
	Generation, Failures int
	LastError            string `json:"last_error"`
}) {
	r.t.Helper()
	var all struct{ Secrets json.RawMessage }
	a := r.must(200, "GET", r.ops+"/ops/stats", r.secrets.OpsToken, "")
	if err := json.Unmarshal(a.body, &all); err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal(all.Secrets, &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// TestSecretsRotate: secrets change without a restart, by themselves, at a signal and by the ops call; two are taken during the
// change; what is wrong changes nothing; and nobody says what they are.
func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	r := newRotating(t)
	first, second := hidden("o", "1"), hidden("o", "2")
	r.put("ops_token", "alice:"+first+"\nbob:"+second+"\n")
	if !await(func() bool { return r.operator(second) == 200 }) || r.operator(first) != 200 {
		t.Fatalf("during the change the tokens are answered %d and %d\n%s", r.operator(first), r.operator(second), r.errors.String())
	}
	r.put("ops_token", second)
	if !await(func() bool { return r.operator(first) == 401 }) || r.operator(second) != 200 {
		t.Fatalf("after the change the tokens are answered %d and %d", r.operator(first), r.operator(second))
	}
	r.secrets.OpsToken = second
	if s := r.state(); s.Generation != 3 || s.Failures != 0 || s.LastError != "" {
		t.Errorf("%+v", s)
	}

	r.put("jwt_secret", hidden("j", "1")+"\n"+hidden("j", "2"))
	if err := r.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.says("changed=[jwt_secret]")
	if a, b := r.user(hidden("j", "1")), r.user(hidden("j", "2")); a != 200 || b != 200 {
		t.Errorf("during the change buyers are answered %d and %d", a, b)
	}
	r.put("service_token", hidden("s", "1")+","+hidden("s", "2"))
	a := r.must(200, "POST", r.ops+"/ops/reload?dry_run=1", second, "")
	if !strings.Contains(a.String(), `"secrets":["service_token"]`) {
		t.Errorf("a dry run says %v", a)
	}
	r.put("jwt_secret", hidden("j", "2"))
	a = r.must(200, "POST", r.ops+"/ops/reload", second, "")
	if !strings.Contains(a.String(), `"secrets":["jwt_secret","service_token"]`) && !strings.Contains(a.String(), `"secrets":["jwt_secret"]`) {
		t.Errorf("a reload says %v", a)
	}
	if a, b := r.user(hidden("j", "1")), r.user(hidden("j", "2")); a != 401 || b != 200 {
		t.Errorf("after the change buyers are answered %d and %d", a, b)
	}
	if a, b := r.shop(hidden("s", "1")), r.shop(hidden("s", "2")); a != 200 || b != 200 {
		t.Errorf("during the change the shop is answered %d and %d", a, b)
	}
	r.wrongFiles()
	r.saysNone()
}

// wrongFiles: what is not right stays as it was, and a reload takes all or nothing.
func (r *rotating) wrongFiles() {
	r.t.Helper()
	before := r.state()
	r.put("jwt_secret", "jjjj-short")
	replace(r.t, r.file, waitMax(2))
	a := r.must(422, "POST", r.ops+"/ops/reload", r.secrets.OpsToken, "")
	if !strings.Contains(a.field("detail"), filepath.Join(r.dir, "jwt_secret")+" must have at least 32 characters") {
		r.t.Errorf("%v", a)
	}
	r.put("service_token", hidden("s", "2")) // is taken beside the one that is wrong
	if !await(func() bool { return r.state().LastError != "" && r.shop(hidden("s", "1")) == 401 }) {
		r.t.Fatalf("%+v, %d", r.state(), r.shop(hidden("s", "1")))
	}
	if s := r.state(); s.Failures == before.Failures || s.Generation != before.Generation+1 {
		r.t.Errorf("%+v, then %+v", before, s)
	}
	if got := r.user(hidden("j", "2")); got != 200 {
		r.t.Errorf("with the last good secret a buyer is answered %d", got)
	}
	r.put("jwt_secret", hidden("j", "2"))
	if !await(func() bool { return r.state().LastError == "" }) {
		r.t.Errorf("%+v", r.state())
	}
}

// saysNone: no secret is in the log or in what the ops listener answers.
func (r *rotating) saysNone() {
	r.t.Helper()
	said := map[string]string{"the log": r.errors.String()}
	for _, path := range []string{"/ops/stats", "/ops/config", "/metrics"} {
		said[path] = r.must(200, "GET", r.ops+path, r.secrets.OpsToken, "").String()
	}
	for where, text := range said {
		for _, letter := range []string{"j", "o", "s"} {
			if strings.Contains(text, strings.Repeat(letter, 4)) {
				r.t.Errorf("%s says a secret:\n%s", where, text)
			}
		}
	}
}

// A file that is being written is not taken at the first look; a volume of Kubernetes replaces what a link leads to.
func TestSecretsAreTakenWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	volume := func(version, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(dir, version, "token"), text)
		if err := os.Symlink(version, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	volume("..1", hidden("o", "1"))
	token := filepath.Join(dir, "token")
	if err := os.Symlink("..data/token", token); err != nil {
		t.Fatal(err)
	}
	c, d := config(t, t.TempDir(), "secrets.ops_token_file="+token)
	v, err := openVault(c, d, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	look := func(want string) {
		t.Helper()
		if v.take("the test", v.changed(false)); v.now().OpsToken != want {
			t.Errorf("it is %q, want %q", v.now().OpsToken, want)
		}
	}
	look(hidden("o", "1"))
	volume("..2", hidden("o", "2"))
	look(hidden("o", "1")) // it has only just changed
	look(hidden("o", "2"))
	if err := os.Truncate(token, 20); err != nil { // somebody writes it in place
		t.Fatal(err)
	}
	look(hidden("o", "2"))
	replace(t, filepath.Join(dir, "..data", "token"), hidden("o", "3"))
	look(hidden("o", "2"))
	look(hidden("o", "3"))
	if s := v.status(); s.Generation != 3 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// What the environment gives stays, whatever a file holds, and a start says so.
func TestSecretsOfTheEnvironmentStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "ops_token")
	replace(t, file, hidden("f", "1"))
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	c, d := config(t, filepath.Join(dir, "data"), "secrets.ops_token_file="+file)
	s := NewServer(c, d, []string{"SLUICE_OPS_TOKEN=" + hidden("e", "1")}, newLog("text", new(slog.LevelVar), log))
	err := s.Start(t.Context())
	defer func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	replace(t, file, hidden("f", "2"))
	err = s.vault.reread("the test", false, func(changed []string) error {
		if len(changed) > 0 {
			t.Errorf("%v have changed", changed)
		}
		return nil
	})
	if err != nil || s.vault.now().OpsToken != hidden("e", "1") {
		t.Errorf("%v, %q", err, s.vault.now().OpsToken)
	}
	for _, want := range []string{"ops_token from SLUICE_OPS_TOKEN, fixed until a restart", "SLUICE_OPS_TOKEN is set, so secrets.ops_token_file is not looked at",
		file + " can be read by everybody on this machine (mode 0644)"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
}

// A listener's certificate is renewed while it is used; a pair that does not fit, that has run out or is no certificate is left
// out, said, and the former one stays.
func TestCertificatesRotate(t *testing.T) {
	t.Parallel()
	authority := certtest.New(t)
	pair := authority.Sign("gateway", certtest.Leaf{})
	c, d := config(t, t.TempDir(), "gateway.tls.certificate_file="+pair.CertificateFile, "gateway.tls.key_file="+pair.KeyFile)
	v, err := openVault(c, d, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string { return v.public.Load().Leaf.SerialNumber.String() }
	look := func(changes bool, wrong string) {
		t.Helper()
		before := serial()
		for range 2 {
			v.take("the test", v.changed(false))
		}
		if changed := serial() != before; changed != changes {
			t.Errorf("another certificate: %v, want %v", changed, changes)
		}
		if s := v.status(); !strings.Contains(s.LastError, wrong) || wrong == "" && s.LastError != "" {
			t.Errorf("%q, want %q", s.LastError, wrong)
		}
	}
	look(false, "")
	authority.Sign("gateway", certtest.Leaf{})
	look(true, "")
	replace(t, pair.KeyFile, "no key")
	look(false, "gateway.tls: certificate_file "+pair.CertificateFile+" and key_file "+pair.KeyFile+" are no pair")
	authority.Sign("gateway", certtest.Leaf{Expires: time.Now().Add(-time.Minute)})
	look(false, "gateway.tls: the certificate expired at ")
	if err := os.Remove(pair.CertificateFile); err != nil {
		t.Fatal(err)
	}
	look(false, "gateway.tls: certificate_file "+pair.CertificateFile+": no such file")
	authority.Sign("gateway", certtest.Leaf{})
	look(true, "")
	if err := os.Chmod(pair.KeyFile, 0o640); err != nil {
		t.Fatal(err)
	}
	if list := v.warnings(d); len(list) > 0 {
		t.Errorf("%q", list)
	}
	authority.Sign("gateway", certtest.Leaf{Expires: time.Now().Add(-time.Minute)})
	if v, err = openVault(c, d, nil, true); err != nil || len(v.warnings(d)) != 1 || !strings.Contains(v.warnings(d)[0], "gateway.tls: the certificate expired at ") {
		t.Errorf("%v, %q", err, v.warnings(d))
	}
	if left := v.lifetimes(time.Now())["gateway"]; left > 0 || left < -120 {
		t.Errorf("it is valid for %v s", left)
	}
}

// TestDigest: what a file holds counts. One that has not changed for a while is not read again, one that has changed is, also
// where the content has the same length, or another file has taken the name.
func TestDigest(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	put := func(at, text string) {
		t.Helper()
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(file, "first")
	s := &source{files: []string{file}}
	settle := func() { // it was read long after it had changed
		l := s.look[file]
		l.at = l.at.Add(time.Hour)
		s.look[file] = l
	}
	first := s.digest()
	settle()
	if l := s.look[file]; s.digest() != first || s.look[file] != l {
		t.Error("a file that has not changed is read again, or taken for another")
	}
	seen := await(func() bool { // once the file system's clock has ticked
		put(file, "other")
		return s.digest() != first
	})
	if !seen {
		t.Error("a change of the content is not seen")
	}
	settle()
	put(file+".new", "first")
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	if s.digest() != first {
		t.Error("another file under the name is not seen, or the same content is another")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if s.digest() == first {
		t.Error("a file that is gone is not seen")
	}
}
