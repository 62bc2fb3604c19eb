package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/test/harness"
)

// trio are Brig and the peers, to run the same bundle.
func trio(t *testing.T) map[string]*rig {
	rigs := map[string]*rig{"brig": newRig(t), "runc": peer(t, "runc")}
	crun := peer(t, "crun")
	// crun refuses a hybrid host as soon as anyone enables a controller of v2.
	if res := crun.result(crun.bundle("/bin/true")); refusesHybrid(res.Stderr) {
		t.Logf("without crun: %s", res.Stderr)
	} else {
		rigs["crun"] = crun
	}
	return rigs
}

// view is what a program in a container sees; each line that differs is named.
const view = `
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|SigBlk|SigIgn|Umask)' /proc/self/status
for f in /dev/*; do stat -c '%A %u %g %t:%T %N' $f; done
ulimit -a
hostname; pwd; env | sort; cat /proc/self/cgroup; cat /proc/self/oom_score_adj
cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax
ls /proc/self/fd
ip link show lo | grep -o 'LOOPBACK[^>]*'
cat /proc/sysrq-trigger 2>&1; cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo x 2>&1 > /proc/sys/kernel/msgmax || echo read-only
stat -c '%n %a %u %g' /proc /dev /dev/pts /dev/shm /dev/mqueue /sys /tmp /
cat /proc/self/mountinfo`

func TestParity(t *testing.T) {
	variants := map[string]func(*bundle){
		"plain": func(*bundle) {},
		"user": func(b *bundle) {
			mask := uint32(0o27)
			b.spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 77}, Umask: &mask}
			b.spec.Process.Cwd = "/home/user"
		},
		"attributes": func(b *bundle) {
			score := 500
			b.spec.Process.OOMScoreAdj = &score
			b.spec.Process.NoNewPrivileges = true
			b.spec.Process.Capabilities.Inheritable = defaults[:3]
			b.spec.Process.Capabilities.Ambient = defaults[:3]
			b.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}, {Type: "RLIMIT_NPROC", Soft: 50, Hard: 60}}
			b.spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}
			b.spec.Root.Readonly = true
			mode := os.FileMode(0o640)
			b.spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/made", Type: "c", Major: 1, Minor: 5, FileMode: &mode}}
		},
		"seccomp":                  func(b *bundle) { b.spec.Linux.Seccomp = allowBut(specs.ActErrno, "mkdir", "mkdirat") },
		"no capabilities":          func(b *bundle) { b.spec.Process.Capabilities = &specs.LinuxCapabilities{} },
		"without cgroup namespace": func(b *bundle) { b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[:5] },
		"mounts": func(b *bundle) {
			os.MkdirAll(b.rootfs("vol"), 0o755)
			os.WriteFile(b.rootfs("file"), nil, 0o644)
			b.spec.Mounts = append(b.spec.Mounts,
				specs.Mount{Destination: "/vol", Source: b.rootfs("home"), Type: "bind", Options: []string{"bind", "ro", "nosuid"}},
				specs.Mount{Destination: "/made/deep", Source: b.rootfs("home"), Type: "bind", Options: []string{"rbind", "rprivate"}},
				specs.Mount{Destination: "/file", Source: b.rootfs("etc"), Type: "bind", Options: []string{"bind"}},
				specs.Mount{Destination: "/scratch", Source: "tmpfs", Type: "tmpfs", Options: []string{"size=1m", "mode=1777", "noexec"}})
			b.spec.Mounts[len(b.spec.Mounts)-2].Source = b.rootfs("bin/busybox")
		},
		"user namespace": nil,
	}
	for name, change := range variants {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			for runtime, r := range trio(t) {
				b := r.script(view)
				b.spec.Process.Args = []string{"/bin/sh", "-c", view}
				if change == nil {
					withUserns(t, b)
				} else {
					change(b)
				}
				res := r.result(b)
				if runtime == "crun" && refusesHybrid(res.Stderr) {
					t.Logf("without crun: %s", res.Stderr) // somebody has enabled one just now
					continue
				}
				if res.Code != 0 {
					t.Errorf("%s: exit code %d: %s", runtime, res.Code, res.Stderr)
				}
				got[runtime] = normal(r, b, res.Stdout)
			}
			differ(t, got)
		})
	}
}

// normal takes out what differs from run to run.
func normal(r *rig, b *bundle, text string) string {
	for _, id := range r.ids {
		text = strings.ReplaceAll(text, id, "ID")
	}
	text = strings.ReplaceAll(text, b.dir, "BUNDLE")
	text = strings.ReplaceAll(text, r.dir, "DIR")
	var lines []string
	mount := regexp.MustCompile(`^\d+ \d+ (\d+:\d+) (\S+) (\S+) (\S+) (.*)- (\S+) (\S+) (.*)$`)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := mount.FindStringSubmatch(line); m != nil {
			at := m[3]
			if strings.HasPrefix(at, "/sys/fs/cgroup/") {
				continue // Debian's runc lacks a hybrid host's v2, crun has several names for one hierarchy
			}
			if slices.Contains(b.spec.Linux.MaskedPaths, at) || slices.Contains(b.spec.Linux.ReadonlyPaths, at) || at == "/sys/fs/cgroup" {
				// What hides a path, or makes it read-only, is everyone's own.
				lines = append(lines, "restricted "+at)
				continue
			}
			if m[6] == "devtmpfs" {
				lines = append(lines, "device "+at) // bound, with more or less caution
				continue
			}
			// Device numbers and peer groups differ.
			source := m[7]
			if m[6] == "tmpfs" || strings.HasPrefix(m[6], "cgroup") {
				source = "any"
			}
			super := strings.Split(m[8], ",")
			super = slices.DeleteFunc(super, func(o string) bool {
				return strings.HasPrefix(o, "inode") || o == "rw" || o == "ro" || strings.HasPrefix(o, "uid=") || strings.HasPrefix(o, "gid=") || o == "size=0k" || strings.HasPrefix(o, "nr_inodes")
			})
			slices.Sort(super)
			lines = append(lines, fmt.Sprint("mount ", m[3], " ", m[4], " ", m[6], " ", source, " ", super))
			continue
		}
		if strings.Contains(line, "mqueue") {
			continue // in a user namespace the peers have it owned by nobody's group
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// differ names the lines that no peer has, and those that all peers have and Brig
// has not: each of them has its own ways.
func differ(t *testing.T, got map[string]string) {
	t.Helper()
	lines := map[string]int{}
	for runtime, text := range got {
		if runtime != "brig" {
			for line := range strings.SplitSeq(text, "\n") {
				lines[line]++
			}
		}
	}
	mine := strings.Split(got["brig"], "\n")
	for _, line := range mine {
		if lines[line] == 0 {
			t.Errorf("no peer has %q", line)
		}
	}
	for line, n := range lines {
		if n >= len(got)-1 && !slices.Contains(mine, line) {
			t.Errorf("Brig lacks %q, which all peers have", line)
		}
	}
}

// TestParityOfFailures: the same exit codes for what goes wrong.
func TestParityOfFailures(t *testing.T) {
	trio := trio(t)
	codes := map[string]map[string]int{}
	for runtime, r := range trio {
		got := map[string]int{}
		run := func(name string, res harness.Result) { got[name] = res.Code }
		run("state of nothing", r.quiet("state", "none"))
		run("kill of nothing", r.quiet("kill", "none", "9"))
		run("delete of nothing", r.quiet("delete", "none"))
		run("delete --force of nothing", r.quiet("delete", "--force", "none"))
		run("no bundle", r.quiet("create", "--bundle", "/nowhere", "x"))
		run("a missing program", r.result(r.bundle("/nothing")))
		id := r.sleeper()
		run("exec of nothing", r.quiet("exec", id, "nothing"))
		run("exec", r.quiet("exec", id, "sh", "-c", "exit 9"))
		run("delete of a running one", r.quiet("delete", id))
		run("start of a running one", r.quiet("start", id))
		run("kill with a wrong signal", r.quiet("kill", id, "NOTHING"))
		r.must("kill", id, "KILL")
		r.becomes(id, "stopped")
		run("kill of a stopped one", r.quiet("kill", id, "TERM"))
		run("exec in a stopped one", r.quiet("exec", id, "true"))
		run("a signal", r.result(func() *bundle {
			b := r.script("kill -TERM $$")
			b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[1:]
			return b
		}()))
		codes[runtime] = got
	}
	for name, code := range codes["brig"] {
		if runc, crun := codes["runc"][name], codes["crun"][name]; code != runc && (codes["crun"] == nil || code != crun) {
			t.Errorf("%s: exit code %d, runc has %d and crun %d", name, code, runc, crun)
		}
	}
}

// TestParityOfJSON: all that runc prints as JSON has the same fields here.
func TestParityOfJSON(t *testing.T) {
	keys := map[string]map[string]map[string]string{}
	for runtime, r := range map[string]*rig{"brig": newRig(t), "runc": peer(t, "runc")} {
		b := r.bundle("/bin/sleep", "600")
		b.spec.Annotations = map[string]string{"a": "b"}
		id := r.started(b)
		keys[runtime] = map[string]map[string]string{}
		for name, args := range map[string][]string{"state": {"state", id}, "list": {"list", "--format", "json"}, "events": {"events", "--stats", id}, "ps": {"ps", "--format", "json", id}} {
			var v any
			if err := json.Unmarshal([]byte(r.must(args...)), &v); err != nil {
				t.Fatalf("%s %s: %v", runtime, name, err)
			}
			keys[runtime][name] = map[string]string{}
			fields(keys[runtime][name], "", v)
		}
	}
	for name, want := range keys["runc"] {
		got := keys["brig"][name]
		for field, kind := range want {
			if got[field] != kind {
				t.Errorf("%s: %s is %q, want %q", name, field, got[field], kind)
			}
		}
		for field := range got {
			if _, ok := want[field]; !ok {
				t.Logf("%s: %s is Brig's own", name, field)
			}
		}
	}
}

// fields lists the paths in a JSON value with their types.
func fields(out map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			fields(out, path+"."+k, e)
		}
	case []any:
		for _, e := range v {
			fields(out, path+"[]", e)
		}
	default:
		out[path] = fmt.Sprint(reflect.TypeOf(v))
	}
}

// refusesHybrid says whether crun will not work while a controller of v2 is
// enabled, as other tests do for a moment.
func refusesHybrid(stderr string) bool {
	return strings.Contains(stderr, "cgroups in hybrid mode not supported")
}
