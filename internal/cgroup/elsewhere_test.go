package cgroup

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// elsewhere is set where the tests run again with other cgroup mounts.
const elsewhere = "BRIG_TEST_CGROUPS"

// others are other ways to mount cgroups, as shell commands that prepare the
// directory $n; it becomes /sys/fs/cgroup in a mount namespace of the tests.
var others = []struct{ name, mounts string }{
	// v1 alone: no cgroup.kill, no CLONE_INTO_CGROUP.
	{"v1", `mount -t tmpfs -o mode=755 tmpfs $n
for h in /sys/fs/cgroup/*/; do
	[ "$(stat -f -c %T $h)" != cgroup2fs ] || continue
	mkdir $n/$(basename $h); mount --bind $h $n/$(basename $h)
done`},
	// hybrid, with the controllers that few hosts mount.
	{"more", `mount -t tmpfs -o mode=755 tmpfs $n
for h in /sys/fs/cgroup/*/; do
	mkdir $n/$(basename $h); mount --bind $h $n/$(basename $h)
done
for c in hugetlb net_cls net_prio rdma; do
	grep -q "^$c	" /proc/cgroups && [ ! -d $n/$c ] || continue
	mkdir $n/$c; mount -t cgroup -o $c $c $n/$c
done`},
	// v2 alone. The controllers that v1 holds on this host stay there.
	{"v2", `mount -t cgroup2 cgroup2 $n`},
}

// TestElsewhere runs all tests again with other mounts of cgroups.
func TestElsewhere(t *testing.T) {
	if os.Getenv(elsewhere) != "" || testing.Short() {
		t.Skip("is elsewhere")
	}
	if Mode() == "v2" {
		t.Skip("this kernel's controllers are all with cgroup v2")
	}
	controllersBack(t)
	for _, o := range others {
		t.Run(o.name, func(t *testing.T) {
			script := "set -e; n=" + t.TempDir() + "\n" + o.mounts + "\nmount --move $n /sys/fs/cgroup\nexec \"$0\" \"$@\""
			args := []string{"--mount", "--propagation", "private", "sh", "-c", script, os.Args[0], "-test.count=1", "-test.timeout=5m"}
			if testing.Verbose() {
				args = append(args, "-test.v")
			}
			cmd := exec.Command("unshare", args...)
			cmd.Env = append(os.Environ(), elsewhere+"="+o.name)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			} else if testing.Verbose() {
				t.Logf("%s", out)
			}
		})
	}
}

// controllersBack takes back what v2 engines give to cgroups below the root,
// which is the host's own.
func controllersBack(t *testing.T) {
	file := Root + "/unified/cgroup.subtree_control"
	before, err := os.ReadFile(file)
	if err != nil {
		return
	}
	t.Cleanup(func() {
		after, _ := os.ReadFile(file)
		for _, c := range strings.Fields(string(after)) {
			if !slices.Contains(strings.Fields(string(before)), c) {
				if err := os.WriteFile(file, []byte("-"+c), 0); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
