package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

// chownAll gives a root file system to the root of a user namespace.
func chownAll(t *testing.T, dir string, id int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, id, id)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// withUserns gives a bundle a user namespace with the IDs from 100000 on.
func withUserns(t *testing.T, b *bundle) *bundle {
	chownAll(t, b.rootfs(), 100000)
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 1000}, {ContainerID: 1000, HostID: 300000, Size: 5000}}
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = maps, maps
	return b
}

func TestUserNamespace(t *testing.T) {
	r := newRig(t)
	b := withUserns(t, r.script("id -u; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; stat -c %u /bin; cat /proc/self/status; touch /made; ls -ln /dev; exec sleep 600"))
	b.spec.Process.Args[2] = "(" + strings.TrimSuffix(b.spec.Process.Args[2], "; exec sleep 600") + ") > /out; touch /ready; exec sleep 600"
	id := r.started(b)
	if err := harness.Eventually("ready", func() bool { _, err := os.Stat(b.rootfs("ready")); return err == nil }); err != nil {
		t.Fatal(err)
	}
	out := readFile(t, b.rootfs("out"))
	contains(t, out, "0\n 0 100000 1000\n 1000 300000 5000\n 0 100000 1000\n 1000 300000 5000\n0\n")
	same(t, "capabilities", status(out)["CapEff"], "00000000a80425fb")
	var st unix.Stat_t
	if err := unix.Stat(b.rootfs("made"), &st); err != nil || st.Uid != 100000 {
		t.Errorf("a file of the container's root has the owner %d: %v", st.Uid, err)
	}
	same(t, "exec", r.must("exec", id, "id", "-u"), "0")
	same(t, "exec by another user", r.must("exec", "-u", "1000:1000", id, "sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '"), "1000\n 0 100000 1000\n 1000 300000 5000")
	pid := r.state(id).PID
	same(t, "owner of the process", strings.Fields(status(readFile(t, fmt.Sprintf("/proc/%d/status", pid)))["Uid"])[0], "100000")
	r.must("delete", "-f", id)

	// An ID outside the maps is refused, and leaves nothing.
	b.spec.Process.User.UID = 70000
	b.spec.Process.Args = []string{"/bin/true"}
	if res := r.result(b); res.Code == 0 || !strings.Contains(res.Stderr, "user") {
		t.Errorf("a user outside of the maps: %+v", res)
	}
}

// TestHooksInUserNamespace: hooks run there as its root.
func TestHooksInUserNamespace(t *testing.T) {
	r := newRig(t)
	b := withUserns(t, r.script("true"))
	log := r.log(b)
	os.Chmod(filepath.Dir(log), 0o777)
	for _, k := range kinds {
		b.hook(k, "cat > /dev/null; echo $0 $(id -u) $(head -n 1 /proc/self/uid_map | cut -c 1-22 | tr -s ' ') >> "+log+"."+k)
	}
	r.output(b)
	for _, k := range kinds {
		want := k + " 0 0 0"
		if k == "createContainer" || k == "startContainer" {
			want = k + " 0 0 100000"
		}
		same(t, "hook", strings.TrimSpace(readFile(t, log+"."+k)), want)
	}
}

func TestTimeNamespace(t *testing.T) {
	r := newRig(t)
	b := r.script("cat /proc/uptime; cat /proc/self/timens_offsets")
	b.spec.Version = "1.1.0"
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
	b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 7000000, Nanosecs: 5}, "monotonic": {Secs: 1000}}
	out := r.output(b)
	var up float64
	fmt.Sscan(out, &up)
	if up < 7000000 {
		t.Errorf("uptime %v: the offset is not in force: %s", up, out)
	}
	// A further process is in it, too.
	b.spec.Process.Args = []string{"/bin/sleep", "600"}
	id := r.started(b)
	fmt.Sscan(r.must("exec", id, "cat", "/proc/uptime"), &up)
	if up < 7000000 {
		t.Errorf("exec: uptime %v", up)
	}
}

// TestJoin joins each type of namespace of another container by its path.
func TestJoin(t *testing.T) {
	for _, how := range []string{"plain", "user"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			first := r.bundle("/bin/sleep", "600")
			first.spec.Version = "1.1.0"
			first.spec.Linux.Namespaces = append(first.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
			if how == "user" {
				withUserns(t, first)
			}
			pid := r.state(r.started(first)).PID
			types := map[specs.LinuxNamespaceType]string{"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time", "user": "user"}
			for kind, name := range types {
				if kind == "user" && how != "user" {
					continue
				}
				b := r.bundle("/bin/sleep", "600")
				b.spec.Version = "1.1.0"
				b.spec.Hostname = ""
				if how == "user" {
					// The namespaces of a user namespace are joined together with it.
					withUserns(t, b)
					b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = nil, nil
					b.setNamespace("user", fmt.Sprintf("/proc/%d/ns/user", pid))
				}
				b.setNamespace(kind, fmt.Sprintf("/proc/%d/ns/%s", pid, name))
				id := r.started(b)
				got, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", r.state(id).PID, name))
				want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
				same(t, "namespace "+name, got, want)
				other := "mnt"
				got, _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", r.state(id).PID, other))
				if want, _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, other)); got == want {
					t.Errorf("%s: the mount namespace is the same, too", kind)
				}
				same(t, "exec", r.must("exec", id, "readlink", "/proc/self/ns/"+name), r.must("exec", id, "readlink", "/proc/1/ns/"+name))
				r.must("delete", "-f", id)
			}
		})
	}
}

// setNamespace makes a bundle join a namespace; an empty path makes a new one.
func (b *bundle) setNamespace(kind specs.LinuxNamespaceType, path string) {
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type == kind {
			b.spec.Linux.Namespaces[i].Path = path
			return
		}
	}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

// TestJoinPID: the end of a container that has joined a PID namespace leaves the
// others there alone, and ends all of its own.
func TestJoinPID(t *testing.T) {
	r := newRig(t)
	host := r.sleeper()
	b := r.script("sleep 601 & sleep 602 & exec sleep 603")
	b.setNamespace("pid", fmt.Sprintf("/proc/%d/ns/pid", r.state(host).PID))
	id := r.started(b)
	if err := harness.Eventually("three processes", func() bool { return len(r.pids(id)) == 3 }); err != nil {
		t.Fatal(err)
	}
	contains(t, r.must("exec", host, "ps"), "sleep 601", "sleep 602", "sleep 603")
	r.must("kill", id, "KILL")
	if err := harness.Eventually("none is left", func() bool { return len(r.pids(id)) == 0 }); err != nil {
		t.Fatal(err)
	}
	r.must("delete", id)
	same(t, "the other container", r.state(host).Status, "running")
}

func TestJoinRefused(t *testing.T) {
	r := newRig(t)
	for path, words := range map[string]string{"/proc/self/ns/nothing": "no such file", "/proc/self/ns/uts": "not a network namespace", "/etc/passwd": "not a network namespace"} {
		b := r.bundle("/bin/true")
		b.setNamespace("network", path)
		id := r.id()
		r.write(b, id)
		r.refused(words, "create", "--bundle", b.dir, id)
	}
	b := r.bundle("/bin/true")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "none"})
	id := r.id()
	r.write(b, id)
	r.refused("none", "create", "--bundle", b.dir, id)
	b.spec.Linux.Namespaces[len(b.spec.Linux.Namespaces)-1].Type = "pid"
	r.write(b, id)
	r.refused("pid", "create", "--bundle", b.dir, id) // twice
}

// TestBusyCgroup: a container whose cgroup is another's is refused, and the other
// goes on, also when the ID is deleted.
func TestBusyCgroup(t *testing.T) {
	r := newRig(t)
	id := r.sleeper()
	b := r.bundle("/bin/true")
	other := r.id()
	r.write(b, other)
	text := strings.ReplaceAll(readFile(t, filepath.Join(b.dir, "config.json")), parent+"/"+other, parent+"/"+id)
	os.WriteFile(filepath.Join(b.dir, "config.json"), []byte(text), 0o644)
	r.refused("not empty", "create", "--bundle", b.dir, other)
	r.refused("not empty", "run", "--bundle", b.dir, other)
	r.must("delete", "--force", other)
	same(t, "the other container", r.state(id).Status, "running")
}
