package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// setClock is a program that sets the clock to what it is: it takes the right
// to do so and changes nothing.
const setClock = `import time; time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME)); print('clock set', flush=True)`

// The document's commands, with brig in the place of docker.
func TestSeed(t *testing.T) {
	r := store(t, "ntpd", `CMD ["python3","-c","`+setClock+`; time.sleep(600)"]`)
	t.Run("the four that can be dropped", func(t *testing.T) {
		out := r.Must(t, "run", "--cap-drop", "AUDIT_WRITE", "--cap-drop", "MKNOD", "--cap-drop", "SETFCAP", "--cap-drop", "SETPCAP",
			"ntpd", "grep", "CapBnd", "/proc/self/status")
		expect(t, out, capMask(t, "chown,dac_override,fsetid,fowner,net_raw,setgid,setuid,net_bind_service,sys_chroot,kill"))
	})
	t.Run("the 14 by default", func(t *testing.T) {
		out := r.Must(t, "run", "ntpd", "cat", "/proc/self/status")
		for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
			expect(t, out, set+":\t00000000a80425fb")
		}
		for _, set := range []string{"CapInh", "CapAmb"} {
			expect(t, out, set+":\t0000000000000000")
		}
	})
	t.Run("drop all, add one back", func(t *testing.T) {
		in := strings.NewReader("grep CapEff /proc/self/status; python3 -c \"" + setClock + "\"\n")
		res := r.RunInput(in, "run", "-i", "--cap-drop", "ALL", "--cap-add", "SYS_TIME", "ntpd", "/bin/sh")
		expect(t, res.Stdout+res.Stderr, "0000000002000000")
		expect(t, res.Stdout+res.Stderr, "clock set")
	})
	t.Run("the clock in the background", func(t *testing.T) {
		id := strings.TrimSpace(r.Must(t, "run", "-d", "--cap-add", "SYS_TIME", "ntpd"))
		eventually(t, "the clock is set", func() bool { return strings.Contains(r.Run("logs", id).Stdout, "clock set") })
		r.Must(t, "rm", "-f", id)
	})
	t.Run("otherwise it will not run", func(t *testing.T) {
		res := r.Run("run", "ntpd")
		if res.Code == 0 || !strings.Contains(res.Stderr, "PermissionError") {
			t.Errorf("without SYS_TIME: code %d, %s", res.Code, res.Stderr)
		}
	})
	t.Run("modify network states", func(t *testing.T) { networkStates(t, r) })
	t.Run("modify capabilities of a running container", func(t *testing.T) {
		id := strings.TrimSpace(r.Must(t, "run", "-d", "ntpd", "sleep", "600"))
		res := r.Run("update", "--cap-add", "NET_ADMIN", id)
		if res.Code == 0 || !strings.Contains(res.Stderr, "You cannot modify the capabilities of an already running container") {
			t.Errorf("update: code %d, %s", res.Code, res.Stderr)
		}
		expect(t, r.Must(t, "exec", id, "grep", "CapBnd", "/proc/self/status"), "00000000a80425fb")
		r.Must(t, "rm", "-f", id)
	})
	t.Run("seccomp profiles", func(t *testing.T) { profiles(t, r) })
}

func networkStates(t *testing.T, r *harness.Root) {
	const key = "/proc/sys/net/core/somaxconn"
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, r.Must(t, "run", "--cap-add", "NET_ADMIN", "ntpd", "sysctl", "net.core.somaxconn=256"), "net.core.somaxconn = 256")
	// The document's own spelling: sysctl takes each word for a key, complains
	// about "=" and "256", and prints the value. What matters is Brig's part.
	res := r.Run("run", "--cap-add", "NET_ADMIN", "ntpd", "sysctl", "net.core.somaxconn", "=", "256")
	expect(t, res.Stdout, "net.core.somaxconn = ")
	res = r.Run("run", "ntpd", "sysctl", "net.core.somaxconn=256")
	if res.Code == 0 && !strings.Contains(res.Stderr, "Read-only file system") && !strings.Contains(res.Stderr, "ermission denied") {
		t.Errorf("without NET_ADMIN: code %d: %s%s", res.Code, res.Stdout, res.Stderr)
	}
	res = r.Run("run", "--cap-add", "NET_ADMIN", "ntpd", "sh", "-c", "echo x > /proc/sys/kernel/hostname")
	if res.Code == 0 {
		t.Error("NET_ADMIN makes /proc/sys/kernel writable")
	}
	if after, _ := os.ReadFile(key); string(after) != string(before) {
		t.Errorf("the host's somaxconn was %s and is %s", before, after)
	}
}

func profiles(t *testing.T, r *harness.Root) {
	dir := t.TempDir()
	custom := filepath.Join(dir, "custom.json")
	write(t, custom, `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],
		"syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":30},
		{"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"}]}]}`)
	// All children inherit the filter.
	res := r.Run("run", "--security-opt", "seccomp="+custom, "ntpd", "sh", "-c", "sh -c 'sh -c \"mkdir /x\"'")
	if res.Code == 0 || !strings.Contains(res.Stderr, "Read-only file system") {
		t.Errorf("mkdir under the profile: code %d, %s", res.Code, res.Stderr)
	}
	const sockets = `import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
except PermissionError: print("refused")`
	expect(t, r.Must(t, "run", "--security-opt", "seccomp="+custom, "ntpd", "python3", "-c", sockets), "refused")
	// A default profile, given by path.
	if path := "/usr/share/containers/seccomp.json"; exists(path) {
		expect(t, r.Must(t, "run", "--security-opt", "seccomp="+path, "ntpd", "grep", "Seccomp", "/proc/self/status"), "Seccomp:\t2")
	} else {
		t.Errorf("%s is missing: install podman's package golang-github-containers-common", path)
	}
	res = r.Run("run", "ntpd", "unshare", "-U", "true")
	if res.Code == 0 {
		t.Error("the default profile lets unshare through")
	}
	r.Must(t, "run", "--security-opt", "seccomp=unconfined", "ntpd", "unshare", "-U", "true")
}

func capMask(t *testing.T, names string) string {
	t.Helper()
	out, err := exec.Command("capsh", "--decode=0").CombinedOutput()
	if err != nil {
		t.Fatalf("capsh: %v: %s", err, out)
	}
	var mask uint64
	for _, n := range strings.Split(names, ",") {
		bit := -1
		for i := range 64 {
			out, err := exec.Command("capsh", "--decode="+hexMask(1<<i)).Output()
			if err == nil && strings.HasSuffix(strings.TrimSpace(string(out)), "=cap_"+n) {
				bit = i
				break
			}
		}
		if bit < 0 {
			t.Fatalf("capsh does not know %s", n)
		}
		mask |= 1 << bit
	}
	return hexMask(mask)
}

func hexMask(v uint64) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 16)
	for i := range b {
		b[15-i] = digits[v>>(4*i)&15]
	}
	return string(b)
}

func expect(t *testing.T, out, want string) {
	t.Helper()
	if !strings.Contains(out, want) {
		t.Errorf("got %q, want %q in it", out, want)
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	if err := harness.Eventually(what, f); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
