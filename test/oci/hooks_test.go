package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/test/harness"
)

// kinds are all hooks in the order in which they run.
var kinds = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

func hooksOf(s *specs.Spec, kind string) *[]specs.Hook {
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	switch kind {
	case "prestart":
		return &s.Hooks.Prestart //nolint:staticcheck // engines still use it
	case "createRuntime":
		return &s.Hooks.CreateRuntime
	case "createContainer":
		return &s.Hooks.CreateContainer
	case "startContainer":
		return &s.Hooks.StartContainer
	case "poststart":
		return &s.Hooks.Poststart
	}
	return &s.Hooks.Poststop
}

// hook adds a hook that runs a shell script with the kind as $0.
func (b *bundle) hook(kind, script string) {
	h := hooksOf(b.spec, kind)
	*h = append(*h, specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script, kind}, Env: []string{"PATH=/bin:/usr/bin"}})
}

// log is a file that hooks write to, under the same name inside and outside: it
// is mounted in the container.
func (r *rig) log(b *bundle) string {
	r.t.Helper()
	dir := filepath.Join(r.dir, "log")
	os.Mkdir(dir, 0o755)
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: dir, Source: dir, Type: "bind", Options: []string{"rbind", "rw"}})
	return filepath.Join(dir, "log")
}

func TestHooks(t *testing.T) {
	r := newRig(t)
	b := r.script("true")
	log := r.log(b)
	b.spec.Process.Args[2] = "echo program >> " + log + "; exec sleep 600"
	b.spec.Annotations = map[string]string{"a": "b"}
	dir := filepath.Dir(log)
	for _, k := range kinds {
		b.hook(k, "cat > "+dir+"/$0; echo $0 $X $# >> "+log+"; readlink /proc/self/ns/mnt > "+dir+"/$0.mnt; readlink /proc/self/ns/net > "+dir+"/$0.net; hostname > "+dir+"/$0.host")
		h := *hooksOf(b.spec, k)
		h[0].Env = append(h[0].Env, "X=1")
		b.hook(k, "echo $0 second >> "+log)
	}
	text := func(name string) string { return strings.TrimSpace(readFile(t, filepath.Join(dir, name))) }
	id := r.created(b)
	wantLog := "prestart 1 0\nprestart second\ncreateRuntime 1 0\ncreateRuntime second\ncreateContainer 1 0\ncreateContainer second\n"
	same(t, "create", readFile(t, log), wantLog)
	r.must("start", id)
	if err := harness.Eventually("program", func() bool { return strings.Contains(readFile(t, log), "program") }); err != nil {
		t.Fatal(err)
	}
	contains(t, readFile(t, log), wantLog+"startContainer 1 0\nstartContainer second\n") // poststart and the program come together
	contains(t, strings.Replace(readFile(t, log), "program\n", "", 1), "poststart 1 0\npoststart second\n")
	pid := r.state(id).PID
	inside, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/mnt")
	outside, _ := os.Readlink("/proc/self/ns/mnt")
	insideNet, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net")
	r.must("delete", "-f", id)
	contains(t, readFile(t, log), "poststop 1 0\npoststop second\n")
	want := map[string]string{"prestart": "creating", "createRuntime": "creating", "createContainer": "creating",
		"startContainer": "created", "poststart": "running", "poststop": "stopped"}
	for _, k := range kinds {
		var s specs.State
		if err := json.Unmarshal([]byte(readFile(t, filepath.Join(dir, k))), &s); err != nil {
			t.Errorf("%s: %v", k, err)
			continue
		}
		wantPID := pid
		if k == "poststop" {
			wantPID = 0
		}
		same(t, k+": state", []any{s.Version, s.ID, s.Status, s.Pid, s.Bundle, s.Annotations["a"]}, []any{"1.0.2", id, want[k], wantPID, b.dir, "b"})
		mnt, net, host := outside, "", ""
		if k == "createContainer" || k == "startContainer" {
			mnt, net, host = inside, insideNet, "box"
		}
		same(t, k+": mount namespace", text(k+".mnt"), mnt)
		if net != "" {
			same(t, k+": network namespace", text(k+".net"), net)
			same(t, k+": host name", text(k+".host"), host)
		}
	}
}

// TestHookPlaces: createContainer finds the program of the host and sees the
// container's mounts below the bundle's root; startContainer is in the container.
func TestHookPlaces(t *testing.T) {
	r := newRig(t)
	b := r.script("cat /made /proc/self/mounts")
	b.hook("createContainer", "set -e; test -e "+b.rootfs("proc/1")+"; test -e "+b.rootfs("dev/null")+"; test -d /usr/share; "+
		"mkdir "+b.rootfs("tmp/late")+"; mount -t tmpfs late "+b.rootfs("tmp/late"))
	os.WriteFile(b.rootfs("hook"), []byte("#!/bin/sh\nset -e\ntest -e /bin/busybox\n! test -d /usr/share\necho by $0 as $(id -u) > /made\n"), 0o755)
	*hooksOf(b.spec, "startContainer") = []specs.Hook{{Path: "/hook"}}
	contains(t, r.output(b), "by /hook as 0\n", "late /tmp/late tmpfs")
	if mounts := readFile(t, "/proc/self/mounts"); strings.Contains(mounts, b.rootfs()) {
		t.Error("the mount of a hook is visible on the host")
	}
}

// TestHookFails: before the program, a hook that fails ends the creation, or the
// container, and poststop hooks still run; afterwards it is a warning.
func TestHookFails(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t)
			b := r.script("true")
			log := r.log(b)
			b.spec.Process.Args[2] = "echo program >> " + log + "; exec sleep 600"
			b.hook(kind, "echo $0 >> "+log+"; echo so it is >&2; exit 3")
			b.hook(kind, "echo $0 second >> "+log)
			if kind != "poststop" {
				b.hook("poststop", "echo $0 >> "+log)
			}
			id := r.id()
			r.write(b, id)
			words := kind + " hook #0 /bin/sh: exit status 3, output: so it is"
			lines := func() string { return strings.TrimSpace(readFile(t, log)) }
			switch kind {
			case "prestart", "createRuntime", "createContainer":
				r.refused(words, "create", "--bundle", b.dir, id)
				r.refused("does not exist", "state", id)
				same(t, "log", lines(), kind+"\npoststop")
				if left := r.left(); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			case "startContainer", "poststart":
				r.must("create", "--bundle", b.dir, id)
				r.refused(words, "start", id)
				same(t, "state", r.state(id).Status, "stopped")
				r.must("delete", id)
				if got := lines(); !strings.HasSuffix(got, "poststop") || strings.Contains(got, "second") || kind == "startContainer" && strings.Contains(got, "program") {
					t.Errorf("log: %q", got)
				}
			case "poststop":
				r.must("run", "-d", "--bundle", b.dir, id)
				res := r.run("delete", "-f", id)
				if res.Code != 0 || !strings.Contains(res.Stderr, words) {
					t.Errorf("delete: %+v, want a warning with %q", res, words)
				}
				contains(t, lines(), "poststop\npoststop second")
			}
			if kind == "poststop" {
				return
			}
			os.Remove(log)
			// The same in one step.
			r.refused(words, "run", "--bundle", b.dir, id)
			r.refused("does not exist", "state", id)
			contains(t, lines(), "poststop")
		})
	}
}

func TestHookErrors(t *testing.T) {
	r := newRig(t)
	one := 1
	for words, h := range map[string]specs.Hook{
		"did not end within 1 second": {Path: "/bin/sleep", Args: []string{"sleep", "600"}, Timeout: &one},
		"no such file or directory":   {Path: "/nothing"},
		"permission denied":           {Path: "/etc/passwd"},
		"killed":                      {Path: "/bin/sh", Args: []string{"sh", "-c", "kill -9 $$"}},
		"absolute":                    {Path: "bin/sh"},
	} {
		for _, kind := range []string{"createRuntime", "createContainer", "startContainer"} {
			b := r.bundle("/bin/true")
			if strings.HasPrefix(words, "permission") {
				os.WriteFile(b.rootfs("etc/passwd"), nil, 0o644)
			}
			*hooksOf(b.spec, kind) = []specs.Hook{h}
			id := r.id()
			r.write(b, id)
			r.refused(words, "run", "--bundle", b.dir, id)
		}
	}
}

// TestHookEnvironment: a hook has the variables that it is given and no others,
// and no descriptor of the runtime's.
func TestHookEnvironment(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/true")
	log := r.log(b)
	for _, kind := range []string{"createRuntime", "createContainer", "startContainer"} {
		b.hook(kind, "echo $0; env | grep -v '^PWD\\|^SHLVL\\|^_=' | tr '\\n' ' ' >> "+log+"; ls /proc/self/fd | tr '\\n' ' ' >> "+log)
	}
	r.output(b)
	same(t, "environment and descriptors", readFile(t, log), strings.Repeat("PATH=/bin:/usr/bin 0 1 2 3 ", 3))
}
