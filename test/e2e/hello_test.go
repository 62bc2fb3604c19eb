package e2e

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// helloReport is what brig/hello prints for machines, as far as it is looked at.
type helloReport struct {
	UID             int `json:"uid"`
	NoNewPrivileges bool
	Capabilities    map[string]json.RawMessage
	Seccomp         struct {
		Mode, Filters, Probed int
		Error                 string
		Blocked               []struct{ Name, Use, Answer string }
	}
	Namespaces []struct{ Name, Host string }
}

// The starter image tells the truth under every policy.
func TestHello(t *testing.T) {
	r := harness.New(t)
	byDefault := hello(t, r)
	for _, tt := range []struct {
		name  string
		flags []string
		check func(t *testing.T, h helloReport)
	}{
		{"default", nil, func(t *testing.T, h helloReport) {
			blocks(t, h, "mount", "reboot", "bpf", "clock_settime", "kexec_load", "unshare", "setns")
			passes(t, h, "read", "chroot", "getppid", "socket")
			if h.NoNewPrivileges || h.Seccomp.Filters != 1 {
				t.Errorf("no new privileges: %v, filters: %d", h.NoNewPrivileges, h.Seccomp.Filters)
			}
			namespaces(t, h, "own", "pid", "net", "mnt", "ipc", "uts", "cgroup")
			namespaces(t, h, "host", "user")
		}},
		{"no capabilities", []string{"--cap-drop", "ALL"}, func(t *testing.T, h helloReport) {
			blocks(t, h, "chroot", "mount")
			passes(t, h, "read")
		}},
		{"the clock", []string{"--cap-drop", "ALL", "--cap-add", "SYS_TIME"}, func(t *testing.T, h helloReport) {
			blocks(t, h, "chroot", "mount")
			passes(t, h, "clock_settime", "settimeofday")
		}},
		{"privileged", []string{"--privileged"}, func(t *testing.T, h helloReport) {
			if h.Seccomp.Mode != 0 || len(h.Seccomp.Blocked) > 0 {
				t.Errorf("privileged has a filter: %+v", h.Seccomp)
			}
		}},
		{"a user, all read-only, one processor", []string{"-u", "1000:1000", "--read-only", "--cpuset-cpus", "0", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"},
			func(t *testing.T, h helloReport) {
				if h.UID != 1000 || !h.NoNewPrivileges {
					t.Errorf("uid %d, no new privileges: %v", h.UID, h.NoNewPrivileges)
				}
				blocks(t, h, "chroot", "mount")
			}},
		{"the host's namespaces", []string{"--network", "host", "--pid", "host"}, func(t *testing.T, h helloReport) {
			namespaces(t, h, "host", "pid", "net", "user")
			namespaces(t, h, "own", "mnt", "ipc", "uts", "cgroup")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := hello(t, r, tt.flags...)
			if h.Seccomp.Error != "" || h.Seccomp.Probed != byDefault.Seccomp.Probed {
				t.Fatalf("the search for blocked calls: %+v", h.Seccomp)
			}
			tt.check(t, h)
		})
	}
	t.Run("a profile", func(t *testing.T) { helloProfile(t, r) })
	t.Run("for people", func(t *testing.T) {
		out := r.Must(t, "run", "--rm", "brig/hello")
		for _, want := range []string{"bounding", "14", "NET_BIND_SERVICE", "mode 2 (filter), 1 filter", "system calls are blocked", "clone(CLONE_NEWUSER)", "socket(AF_VSOCK)"} {
			expect(t, out, want)
		}
		if strings.Contains(out, "\x1b") {
			t.Error("colours in a pipe")
		}
	})
}

// helloProfile compares what it finds with a profile of one's own: that and
// nothing else.
func helloProfile(t *testing.T, r *harness.Root) {
	profile := t.TempDir() + "/profile.json"
	write(t, profile, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
		{"names":["swapon"],"action":"SCMP_ACT_ERRNO","errnoRet":30},
		{"names":["mkdir"],"action":"SCMP_ACT_KILL_PROCESS"},
		{"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]}`)
	h := hello(t, r, "--security-opt", "seccomp="+profile)
	var found []string
	for _, b := range h.Seccomp.Blocked {
		found = append(found, b.Name+" "+b.Use+" "+b.Answer)
	}
	slices.Sort(found)
	if want := []string{"mkdir  killed", "socket AF_VSOCK EPERM", "swapon  EROFS"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

func hello(t *testing.T, r *harness.Root, flags ...string) (h helloReport) {
	t.Helper()
	out := r.Must(t, append(append([]string{"run", "--rm"}, flags...), "brig/hello", "--format", "json")...)
	if err := json.NewDecoder(bytes.NewBufferString(out)).Decode(&h); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return h
}

func (h helloReport) blocked(name string) bool {
	for _, b := range h.Seccomp.Blocked {
		if b.Name == name && b.Use == "" {
			return true
		}
	}
	return false
}

func blocks(t *testing.T, h helloReport, names ...string) {
	t.Helper()
	for _, n := range names {
		if !h.blocked(n) {
			t.Errorf("%s is not among the blocked calls", n)
		}
	}
}

func passes(t *testing.T, h helloReport, names ...string) {
	t.Helper()
	for _, n := range names {
		if h.blocked(n) {
			t.Errorf("%s is among the blocked calls", n)
		}
	}
}

func namespaces(t *testing.T, h helloReport, whose string, names ...string) {
	t.Helper()
	for _, n := range h.Namespaces {
		if slices.Contains(names, n.Name) && n.Host != whose {
			t.Errorf("namespace %s: %s, want %s", n.Name, n.Host, whose)
		}
	}
}
