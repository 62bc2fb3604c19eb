// Package engines has other engines use Brig as their OCI runtime: podman,
// Docker, containerd, and the kubelet's interface of containerd. What their users
// see must be what they see with runc: most tests give the same commands to the
// engine with the one and with the other.
package engines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brig-run/brig/test/harness"
)

// inside is set in the namespaces that TestMain makes, to the network namespace
// of before.
const inside = "BRIG_TEST_ENGINES"

// TestMain runs the tests in a network and a mount namespace of their own: the
// daemons make interfaces, and mounts that a killed one would leave.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" && os.Geteuid() == 0 {
		args := append([]string{"unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", `ip link set lo up && exec "$0" "$@"`}, os.Args...)
		if path, err := exec.LookPath("unshare"); err == nil {
			err = syscall.Exec(path, args, append(os.Environ(), fmt.Sprintf("%s=/proc/%d/ns/net", inside, os.Getppid())))
			fmt.Fprintln(os.Stderr, "unshare:", err)
			os.Exit(1)
		}
	}
	harness.Main(m)
}

// brigRuntime is what engines are given: a link to brig by the name that makes
// it a runtime. BRIG_TEST_RUNTIME names another runtime, to try the tests.
func brigRuntime(t *testing.T) string {
	t.Helper()
	if r := os.Getenv("BRIG_TEST_RUNTIME"); r != "" {
		return r
	}
	link, err := harness.Runtime()
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// reference is the runtime that engines are made for.
func reference(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("runc")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// scratch is a directory on a file system that overlay mounts can lie on, with a
// short path: sockets are made in it.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(harness.Scratch(), "brig-eng-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// engine is a command line like Docker's, with a runtime.
type engine interface {
	run(in []byte, args ...string) harness.Result
}

// scenario is a list of commands; RUN stands for "run" with the flags that
// choose the runtime. DIR is a directory with profile.json. UNTIL waits for a word
// in the output. ALONE is for what runc cannot do where root lacks a capability:
// Brig must, and a word be in the output.
type scenario struct {
	name  string
	steps []string
}

// scenarios whose output must not depend on the runtime.
var scenarios = []scenario{
	{"exit codes", []string{`RUN --rm busybox true`, `RUN --rm busybox sh -c 'echo out; echo err >&2; exit 7'`, `RUN --rm busybox sh -c 'kill -KILL $$'`}},
	{"no such program", []string{`RUN --rm busybox nonesuch`}},
	{"not executable", []string{`RUN --rm busybox /etc/passwd`}},
	{"a directory", []string{`RUN --rm busybox /etc`}},
	{"capabilities", []string{`RUN --rm busybox grep ^Cap /proc/self/status`, `RUN --rm --cap-drop ALL busybox grep ^Cap /proc/self/status`,
		`RUN --rm --cap-drop ALL --cap-add CHOWN --cap-add NET_ADMIN busybox grep ^Cap /proc/self/status`,
		`RUN --rm --user 1000 busybox grep ^Cap /proc/self/status`, `RUN --rm --user 1000 --cap-add CHOWN busybox grep ^Cap /proc/self/status`}},
	{"denied by capabilities", []string{`RUN --rm --cap-drop CHOWN busybox chown 1 /tmp`, `RUN --rm busybox hostname x`, `RUN --rm --cap-add SYS_ADMIN busybox sh -c 'hostname x && hostname'`}},
	{"seccomp", []string{`RUN --rm busybox grep ^Seccomp: /proc/self/status`, `RUN --rm --security-opt seccomp=unconfined busybox grep ^Seccomp: /proc/self/status`,
		`RUN --rm --security-opt seccomp=DIR/profile.json busybox sh -c 'mkdir /x; touch /y && echo touched'`, `RUN --rm busybox unshare -m true`}},
	{"no new privileges", []string{`RUN --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status`}},
	{"users", []string{`RUN --rm --user user busybox id`, `RUN --rm --user 4321:8765 busybox id`, `RUN --rm --user user --group-add 77 busybox id -G`}},
	{"process", []string{`RUN --rm --workdir /usr/bin --env A=1 --hostname box busybox sh -c 'pwd; echo $A; hostname; id -u; umask; ulimit -n'`,
		`RUN --rm --ulimit nofile=100:200 --ulimit core=0 busybox sh -c 'ulimit -n; ulimit -Hn; ulimit -c'`, `RUN --rm --oom-score-adj 321 busybox cat /proc/self/oom_score_adj`}},
	{"pid 1", []string{`RUN --rm busybox sh -c 'echo $$; readlink /proc/self/ns/pid | cut -d: -f1'`, `RUN --rm --init busybox sh -c 'tr "\0" " " </proc/1/cmdline | cut -d" " -f1 | sed s,.*/,,'`}},
	{"files", []string{`RUN --rm --read-only busybox touch /x`, `RUN --rm --read-only --tmpfs /tmp busybox sh -c 'touch /tmp/x && ls /tmp'`,
		`RUN --rm --volume DIR:/mnt:ro busybox sh -c 'ls /mnt; touch /mnt/x'`, `RUN --rm --volume DIR/profile.json:/a/b/file busybox wc -c /a/b/file`,
		`RUN --rm --tmpfs /t:size=1m,mode=700 busybox sh -c 'stat -c %a /t; df -k /t | tail -1 | tr -s " " | cut -d" " -f2'`}},
	{"mounts", []string{`RUN --rm busybox sh -c 'grep -vE " (/|/etc/.*|/run/.*) " /proc/self/mounts | grep -v cgroup | grep -v -e " /proc/[a-z]" -e /sys/[a-z] | cut -d" " -f2-4 | sed "s/size=[0-9]*k/size/;s/,inode64//" | sort'`,
		`RUN --rm --shm-size 2m busybox sh -c 'df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2'`}},
	{"masks", []string{`RUN --rm busybox sh -c 'cat /proc/kcore /proc/keys; ls /proc/scsi /sys/firmware; echo b >/proc/sysrq-trigger'`}},
	{"devices", []string{`RUN --rm busybox sh -c 'ls -ln /dev | grep -v core | tr -s " " | cut -d" " -f1,3-6,10- | sort'`, `RUN --rm --device /dev/loop7:/dev/seven:r busybox sh -c 'dd if=/dev/seven of=/dev/null count=0 && echo read; dd if=/dev/null of=/dev/seven count=0'`,
		`RUN --rm busybox sh -c 'mknod /x b 7 7 && dd if=/x count=0'`}},
	{"sysctl", []string{`RUN --rm --network none --sysctl net.core.somaxconn=256 busybox cat /proc/sys/net/core/somaxconn`, `RUN --rm --sysctl kernel.shmmax=65536 busybox cat /proc/sys/kernel/shmmax`,
		`RUN --rm busybox sh -c 'echo 1 >/proc/sys/kernel/pid_max'`}},
	{"network", []string{`RUN --rm --network none busybox ip -o addr`, `RUN --rm --network host busybox sh -c 'ip -o link show lo | cut -d" " -f2'`}},
	{"limits", []string{`RUN --rm --memory 64m --pids-limit 33 --cpu-shares 300 --cpu-quota 40000 --cpu-period 80000 --cpuset-cpus 0 busybox sh -c 'cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes pids.max pids/pids.max cpu.max cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus cpuset.cpus 2>/dev/null; nproc'`,
		`RUN --rm --memory 16m --memory-swap 16m busybox sh -c 'tail /dev/zero'`}},
	{"privileged", []string{`ALONE mounted RUN --rm --privileged busybox sh -c 'grep -e CapEff -e Seccomp: /proc/self/status; mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && mount -t tmpfs none /mnt && echo mounted; ls /dev/loop7'`}},
	{"host namespaces", []string{`RUN --rm --pid host busybox sh -c '[ $(ls -d /proc/[0-9]* | wc -l) -gt 5 ] && echo many'`, `RUN --rm --ipc host busybox true`, `RUN --rm --uts host busybox sh -c '[ -n "$(hostname)" ] && echo named'`}},
	{"input", []string{`RUN --rm -i busybox cat`}},
	{"terminal", []string{`RUN --rm -t busybox sh -c 'tty; stty size | wc -w; ls -l /proc/self/fd/0 | sed s,.*-\>,,'`}},
	{"life", []string{`RUN -d --name life busybox sh -c 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.1; done'`,
		`UNTIL up logs life`, `exec life sh -c 'echo in; exit 5'`, `exec life nonesuch`, `exec life /etc`, `exec --user user --workdir /tmp --env B=2 life sh -c 'id -u; pwd; echo $B'`, `exec -t life tty`,
		`exec life grep -e ^Cap -e Seccomp: /proc/self/status`, `ALONE CapEff exec --privileged life grep -e ^CapEff /proc/self/status`,
		`stop -t 20 life`, `logs life`, `inspect --format {{.State.Status}}-{{.State.ExitCode}} life`, `start life`, `UNTIL running inspect --format {{.State.Status}} life`, `kill life`, `wait life`, `inspect --format {{.State.Status}}-{{.State.ExitCode}} life`, `rm -f life`}},
	{"pause", []string{`RUN -d --name frozen busybox sleep 1000`, `pause frozen`, `inspect --format {{.State.Status}} frozen`, `unpause frozen`, `inspect --format {{.State.Status}} frozen`, `pause frozen`, `rm -f frozen`}},
	{"create and start", []string{`CREATE --name made busybox sh -c 'echo hello; exit 4'`, `start -a made`, `rm made`}},
	{"update", []string{`RUN -d --memory 64m --name grows busybox sleep 1000`, `update --memory 128m --memory-swap 256m grows`, `exec grows sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null'`,
		`update --cpu-shares 77 grows`, `exec grows sh -c 'cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu.weight 2>/dev/null'`, `rm -f grows`}},
	{"killed", []string{`RUN -d --name dies busybox sleep 1000`, `kill --signal KILL dies`, `wait dies`, `inspect --format {{.State.ExitCode}} dies`, `rm dies`}},
	{"out of memory", []string{`RUN -d --memory 16m --memory-swap 16m --name hog busybox tail /dev/zero`, `wait hog`, `rm -f hog`}},
	{"copied", []string{`RUN -d --name holds busybox sh -c 'echo data >/root/f; sleep 1000'`, `UNTIL data exec holds cat /root/f`, `cp holds:/root/f DIR/copy`, `cp DIR/copy holds:/tmp/g`, `exec holds cat /tmp/g`, `rm -f holds`}},
	{"shared", []string{`RUN -d --ipc shareable --name first busybox sleep 1000`, `RUN --rm --pid container:first --network container:first --ipc container:first busybox sh -c 'ps | grep -c "sleep 100[0]"'`, `rm -f first`}},
}

// profile forbids mkdir.
const profile = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}`

// workDir is a directory with the files that scenarios use.
func workDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "profile.json"), []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// compare gives all scenarios to two engines that differ in the runtime.
func compare(t *testing.T, ours, theirs engine) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			dir := workDir(t)
			var want, got []harness.Result // one after the other: they may share names
			for _, step := range s.steps {
				want = append(want, perform(t, theirs, step, dir))
			}
			for _, step := range s.steps {
				got = append(got, perform(t, ours, step, dir))
			}
			for i, step := range s.steps {
				w, g := plain(want[i].Stdout), plain(got[i].Stdout)
				if args := words(step); args[0] == "ALONE" {
					if got[i].Code != 0 || !strings.Contains(g, args[1]) {
						t.Errorf("%s: code %d\n%s%s", step, got[i].Code, g, got[i].Stderr)
					}
					continue
				}
				if strings.Contains(step, " -d ") || strings.HasPrefix(step, "CREATE") || strings.HasPrefix(step, "update") { // an ID
					w, g = "", ""
				}
				if want[i].Code != got[i].Code || w != g {
					t.Errorf("%s\nwith runc: code %d\n%s%s\nwith brig: code %d\n%s%s", step, want[i].Code, want[i].Stdout, want[i].Stderr, got[i].Code, got[i].Stdout, got[i].Stderr)
				} else if want[i].Code != 0 {
					t.Logf("%s\nwith runc: %s\nwith brig: %s", step, want[i].Stderr, got[i].Stderr)
				}
			}
		})
	}
}

// perform gives one step to an engine.
func perform(t *testing.T, e engine, step, dir string) harness.Result {
	t.Helper()
	args := words(strings.ReplaceAll(step, "DIR", dir))
	if args[0] == "ALONE" {
		args = args[2:]
	}
	if args[0] != "UNTIL" {
		return e.run([]byte("some input\n"), args...)
	}
	var res harness.Result
	err := harness.Eventually(step, func() bool {
		res = e.run(nil, args[2:]...)
		return strings.Contains(res.Stdout, args[1])
	})
	if err != nil {
		t.Fatalf("%v: %+v", err, res)
	}
	return harness.Result{}
}

// plain makes messages of runtimes alike that engines pass on.
func plain(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "unable to start container process: ", ""), `exec: "`, `exec "`)
}

// word is one in single quotes, or one without spaces.
var word = regexp.MustCompile(`'[^']*'|\S+`)

func words(s string) []string {
	list := word.FindAllString(s, -1)
	for i, w := range list {
		list[i] = strings.Trim(w, "'")
	}
	return list
}

// expand puts an engine's own flags in the place of RUN and CREATE.
func expand(args []string, flags ...string) []string {
	switch args[0] {
	case "RUN", "CREATE":
		if !slices.Contains(args, "--network") {
			flags = append(flags, "--network", "none")
		}
		// rm -f of a process that ignores SIGTERM should not take ten seconds.
		return append(append([]string{strings.ToLower(args[0]), "--stop-timeout", "0"}, flags...), args[1:]...)
	}
	return args
}

// removeCgroups takes away the empty cgroups that an engine leaves as parents, by
// patterns below a hierarchy's root. Those of other engines on this host that have
// the same names stay, as they have processes.
func removeCgroups(patterns ...string) {
	for range 20 {
		left := false
		for _, p := range patterns {
			v1, _ := filepath.Glob("/sys/fs/cgroup/*/" + p)
			v2, _ := filepath.Glob("/sys/fs/cgroup/" + p)
			for _, dir := range append(v1, v2...) {
				left = removeBelow(dir) != nil || left
			}
		}
		if !left {
			return
		}
		time.Sleep(100 * time.Millisecond) // for processes that are about to end
	}
}

func removeBelow(dir string) error {
	below, _ := filepath.Glob(dir + "/*/")
	for _, b := range below {
		removeBelow(strings.TrimSuffix(b, "/"))
	}
	return os.Remove(dir)
}
