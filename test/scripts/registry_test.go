package scripts

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// registry starts Debian's docker-registry and gives its address.
func registry(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "config.yml")
	// me:secret
	users := "me:$2y$05$MhCfWQ5wyVbGN5KKkb.7eeY3fbPOPhW2FL.zDZ2O9oG0U25E0fNua\n"
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %q}\nauth: {htpasswd: {realm: test, path: %s/users}}\n",
		dir, addr, dir)
	for name, content := range map[string]string{config: text, filepath.Join(dir, "users"): users} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	err = harness.Eventually("docker-registry answers", func() bool {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	return addr
}

// From login to logout with a registry, as a user does it.
func TestRegistry(t *testing.T) {
	addr := registry(t)
	r := harness.New(t) // may build brig, with the caches of the real home
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	image, err := harness.Busybox(addr + "/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Load(image); err != nil {
		t.Fatal(err)
	}
	name := image.Name
	fails := func(want string, args ...string) {
		t.Helper()
		res := r.Run(args...)
		if res.Code == 0 || strings.Count(res.Stderr, "\n") != 1 || !strings.Contains(res.Stderr, want) {
			t.Errorf("brig %s: exit code %d, %q; want one line with %q", strings.Join(args, " "), res.Code, res.Stderr, want)
		}
	}
	prints := func(pattern string, args ...string) {
		t.Helper()
		if out := r.Must(t, args...); !regexp.MustCompile(`^` + pattern + `$`).MatchString(out) {
			t.Errorf("brig %s: printed %q; want %s", strings.Join(args, " "), out, pattern)
		}
	}
	fails("brig login "+addr, "push", name)
	fails("empty", "login", "-u", "me", "--password-stdin", addr) // after an empty password
	if res := r.RunInput(strings.NewReader("secret\n"), "login", "-u", "me", "--password-stdin", addr); res.Code != 0 || res.Stdout != "Login Succeeded\n" {
		t.Fatalf("%+v", res)
	}
	q := regexp.QuoteMeta(addr)
	digest := `sha256:[0-9a-f]{64}`
	prints(`The push refers to repository \[`+q+`/team/app\]\n[0-9a-f]{12}: Pushed\n1: digest: `+digest+` size: \d+`, "push", name)
	prints(`The push refers to repository \[`+q+`/team/app\]\n[0-9a-f]{12}: Layer already exists\n1: digest: `+digest+` size: \d+`, "push", name)
	r.Must(t, "tag", name, addr+"/team/app:2")
	prints(q+`/team/app:1\n`+q+`/team/app:2`, "push", "-q", "-a", addr+"/team/app")
	r.Must(t, "rmi", "-f", r.Must(t, "images", "-q"))
	prints(`1: Pulling from team/app\n([0-9a-f]{12}): Pulling fs layer\n[0-9a-f]{12}: Download complete\n[0-9a-f]{12}: Pull complete\n`+
		`Digest: `+digest+`\nStatus: Downloaded newer image for `+q+`/team/app:1\n`+q+`/team/app:1`, "pull", name)
	prints(`(?s).*Already exists\n.*Status: Image is up to date for .*`, "pull", name)
	prints(q+`/team/app:2`, "pull", "-q", addr+"/team/app:2")
	fails("no such image or tag", "pull", addr+"/team/app:3")

	// run pulls what is missing, and tells of it beside the container's output.
	r.Must(t, "rmi", name, addr+"/team/app:2")
	res := r.Run("run", "--rm", name, "echo", "it runs")
	if res.Code != 0 || res.Stdout != "it runs\n" || !strings.Contains(res.Stderr, "Unable to find image '"+name+"' locally\n") ||
		!strings.Contains(res.Stderr, "Pull complete") {
		t.Errorf("%+v", res)
	}
	prints(`(?s).*"`+q+`/team/app@`+digest+`".*`, "inspect", name)

	prints("Removing login credentials for "+q, "logout", addr)
	prints("Not logged in to "+q, "logout", addr)
	fails("brig login "+addr, "pull", name)
}
