// Package parity gives the same command lines to Brig and to podman and
// compares what comes out: exit codes and standard output. Where the two
// differ by design, because Brig follows Docker, a command does not look at
// that part, and a comment says so.
package parity

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// peer is podman with stores of its own.
type peer struct{ dir string }

// startPeer skips where podman cannot run at all: that is no fault of Brig's.
func startPeer(t *testing.T) *peer {
	t.Helper()
	if _, err := exec.LookPath("podman"); err != nil {
		t.Skip("podman is not installed")
	}
	dir, err := os.MkdirTemp(harness.Scratch(), "brig-parity-")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{dir}
	t.Cleanup(func() {
		p.run(nil, "rm", "-f", "-a", "-t", "0")
		exec.Command("umount", filepath.Join(dir, "root", "overlay")).Run()
		os.RemoveAll(dir)
	})
	return p
}

func (p *peer) load(t *testing.T, image *harness.Image) {
	t.Helper()
	if res := p.run(harness.Archive(t, image), "load", "-q"); res.Code != 0 {
		t.Fatalf("podman load: %s", res.Stderr)
	}
}

func (p *peer) run(in []byte, args ...string) harness.Result {
	// Podman's runtime refuses hybrid cgroups while a controller is on v2, which
	// another test can change at any moment: it sees those of v1 alone.
	const hide = `umount /sys/fs/cgroup/unified 2>/dev/null
exec "$@"`
	all := append([]string{"-m", "sh", "-c", hide, "sh", "podman", "--root", p.dir + "/root", "--runroot", p.dir + "/run", "--storage-driver", "overlay",
		"--cgroup-manager", "cgroupfs", "--events-backend", "none"}, args...)
	cmd := exec.Command("unshare", all...)
	cmd.Stdin = bytes.NewReader(in)
	return harness.Finish(cmd)
}

// scenario is a list of commands. In each, RUN stands for "run" with the flags
// that make the two alike, and CREATE for "create" with them. FAILS before a
// command says that the two use different codes for their own failures: it is
// enough that both fail. QUIET says that podman prints an ID where Docker, and
// so Brig, prints the name that was given, or the other way round.
type scenario struct {
	name  string
	steps []string // split at spaces, but for the text in single quotes
	in    string   // standard input of all
}

// scenarios. The image "ep" has an entrypoint, a command, a working directory,
// a user, a variable, a label and a stop signal.
func scenarios() []scenario {
	s := func(name string, steps ...string) scenario { return scenario{name: name, steps: steps} }
	return []scenario{
		s("code 0", `RUN --rm busybox true`),
		s("code 3", `RUN --rm busybox sh -c 'echo out; exit 3'`),
		s("not found", `RUN --rm busybox nonesuch`),
		s("path not found", `RUN --rm busybox /no/such`),
		s("directory", `RUN --rm busybox /etc`),
		s("not executable", `RUN --rm busybox /etc/passwd`),
		s("signal", `RUN --rm --init busybox sh -c 'kill -TERM $$'`),
		s("streams", `RUN --rm busybox sh -c 'echo out; echo err >&2'`),
		s("bad flag", `RUN --rm --no-such-flag busybox true`),
		s("no image", `RUN --rm --pull never localhost/none true`),
		s("user by name", `RUN --rm -u user busybox sh -c 'id -u; id -g; id -G | tr " " "\n" | sort'`),
		s("user by number", `RUN --rm -u 1000 busybox sh -c 'id -u; id -g; id -G | tr " " "\n" | sort'`),
		s("user and group", `RUN --rm -u user:nogroup busybox sh -c 'id -u; id -g'`),
		s("unknown numbers", `RUN --rm -u 4321:8765 busybox sh -c 'id -u; id -g'`),
		s("unknown number", `RUN --rm -u 4321 busybox sh -c 'id -u; id -g; echo $HOME'`),
		s("unknown name", `FAILS RUN --rm -u nobodyknows busybox true`),
		s("groups", `RUN --rm --group-add extra --group-add 77 busybox sh -c 'id -G | tr " " "\n" | sort -n'`),
		// "container" and TERM are podman's alone.
		s("environment", `RUN --rm --hostname box busybox sh -c 'env | grep -v -e ^container= -e ^TERM= | sort'`),
		s("variables", `RUN --rm -e A=1 -e B= -e 'C=x y' -e A=2 busybox sh -c 'env | grep -e ^A= -e ^B= -e ^C= | sort'`),
		s("variables of the image", `RUN --rm -u 0 -e EP=mine --entrypoint sh ep -c 'echo $EP $PATH'`),
		s("home of a user", `RUN --rm -u user busybox sh -c 'echo $HOME'`),
		s("entrypoint", `RUN --rm ep`, `RUN --rm ep user arg`, `RUN --rm --entrypoint echo ep`, `RUN --rm --entrypoint echo ep x`, `RUN --rm --entrypoint pwd ep`),
		s("no command", `RUN --rm empty`),
		s("workdir", `RUN --rm -w /usr/bin busybox pwd`, `FAILS RUN --rm -w /etc/passwd busybox pwd`),
		s("hostname", `RUN --rm --hostname box busybox sh -c 'hostname; echo $(cat /etc/hostname)'`),
		s("add host", `RUN --rm --add-host db:10.0.0.7 busybox sh -c 'grep -w db /etc/hosts | tr -s "\t " " "'`),
		s("capabilities of root", `RUN --rm --cap-drop ALL --cap-add CHOWN,SYS_TIME busybox grep ^Cap /proc/self/status`),
		s("no capabilities", `RUN --rm --cap-drop ALL busybox grep ^Cap /proc/self/status`),
		s("all but one", `RUN --rm --cap-drop ALL --cap-add kill --cap-add cap_net_admin busybox grep ^Cap /proc/self/status`),
		s("unknown capability", `RUN --rm --cap-add NOPE busybox true`),
		// Podman raises what was added into the ambient set, Docker does not.
		s("bounding set of a user", `RUN --rm -u 1000 --cap-drop ALL --cap-add CHOWN busybox grep CapBnd /proc/self/status`),
		s("no new privileges", `RUN --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status`),
		s("seccomp", `RUN --rm busybox grep ^Seccomp: /proc/self/status`, `RUN --rm --security-opt seccomp=unconfined busybox grep ^Seccomp: /proc/self/status`),
		s("denied", `RUN --rm --security-opt seccomp=DIR/profile.json busybox sh -c 'mkdir /x; touch /y && echo touched'`, `RUN --rm busybox mount -t tmpfs none /tmp`, `RUN --rm --cap-drop ALL busybox chown 1 /tmp`),
		s("privileged", `RUN --rm --privileged busybox sh -c 'grep -e ^Seccomp: -e CapInh -e CapAmb /proc/self/status; mount -t tmpfs none /tmp && echo mounted'`),
		s("bounding set when privileged", `RUN --rm --privileged busybox grep -e CapBnd -e CapEff /proc/self/status`),
		s("kinds of mounts", `RUN --rm busybox sh -c 'grep -E " /(proc|sys|dev|dev/pts|dev/mqueue|dev/shm) " /proc/mounts | cut -d" " -f2,3 | sort'`),
		s("flags of mounts", `RUN --rm busybox sh -c 'grep -E " /(proc|sys|dev/pts|dev/mqueue|dev/shm) " /proc/mounts | sed -E "s/,(relatime|gid=5|mode=[0-9]+|ptmxmode=[0-9]+|size=[0-9a-z]+|context=[^,]*|inode64)//g" | cut -d" " -f2-4 | sort'`),
		s("devices", `RUN --rm busybox sh -c 'cd /dev; ls | grep -v -x -e console -e core'`, `RUN --rm busybox sh -c 'cd /dev; stat -c "%n %t:%T %a %u:%g" null zero full random urandom tty'`),
		s("devices by node", `RUN --rm --cap-add MKNOD busybox sh -c 'mknod /tmp/k c 1 11 && head -c1 /tmp/k'`),
		s("masks", `RUN --rm busybox sh -c 'for f in /proc/kcore /proc/keys /proc/timer_list; do stat -c %t:%T $f; done'`),
		s("read-only paths", `RUN --rm busybox sh -c 'echo x > /proc/sys/kernel/domainname'`, `RUN --rm busybox mkdir /sys/x`),
		s("descriptors", `RUN --rm busybox sh -c 'ls /proc/self/fd'`),
		s("process", `RUN --rm busybox sh -c 'echo $$; umask; grep -e SigBlk -e SigIgn /proc/self/status; cut -d" " -f4-8 /proc/self/stat | cut -d" " -f4'`),
		s("namespaces", `RUN --rm --pid host busybox sh -c '[ $$ -gt 1 ] && echo host'`, `RUN --rm busybox sh -c 'ip -o link | wc -l'`),
		s("tmpfs", `RUN --rm --tmpfs /t busybox sh -c 'touch /t/x; stat -c %a /t'`, `RUN --rm --tmpfs /t:size=1m,mode=700 busybox sh -c 'df -k /t | tail -1 | tr -s " " | cut -d" " -f2; stat -c %a /t'`),
		s("read-only", `RUN --rm --read-only --tmpfs /run busybox sh -c 'touch /run/x && touch /x'`),
		s("bind", `RUN --rm -v DIR:/data:ro busybox sh -c 'cat /data/file; touch /data/x'`, `RUN --rm --mount type=bind,source=DIR,target=/data,readonly busybox cat /data/file`,
			`RUN --rm --mount type=bind,source=DIR/missing,target=/data busybox true`),
		s("shm", `RUN --rm --shm-size 8m busybox sh -c 'df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2'`),
		s("ulimit", `RUN --rm --ulimit core=0:100 busybox sh -c 'ulimit -c; ulimit -H -c'`),
		s("limits", `RUN --rm -m 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 50 busybox sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu*/cpu.cfs_quota_us cpu*/cpu.shares cpuset/cpuset.cpus pids/pids.max memory.max pids.max cpu.max cpuset.cpus 2>/dev/null | uniq; true'`),
		s("sysctl", `RUN --rm --sysctl net.core.somaxconn=321 busybox sysctl net.core.somaxconn`),
		s("oom score", `RUN --rm --oom-score-adj 321 busybox cat /proc/self/oom_score_adj`),
		{"stdin", []string{`RUN --rm -i busybox wc`, `RUN --rm busybox wc`}, "one\ntwo\n"},
		s("logs", `RUN --name cc busybox sh -c 'for i in 1 2 3; do echo $i; done'`, `logs cc`, `logs --tail 1 cc`, `rm cc`, `FAILS logs cc`),
		s("create and start", `CREATE --name cc busybox sh -c 'echo again; exit 4'`, `start -a cc`, `start -a cc`, `inspect -f '{{.State.ExitCode}} {{.State.Status}}' cc`, `wait cc`, `rm cc`),
		s("exec", `RUN -d --name cc -e A=run -w /var busybox sleep 600`, `exec cc pwd`, `exec -w /tmp -u 1000 -e A=exec cc sh -c 'pwd; id -u; echo $A'`, `exec cc sh -c 'exit 9'`,
			`exec cc nonesuch`, `exec cc /etc`, `exec cc grep -e CapInh -e CapAmb /proc/self/status`, `exec -i cc wc`, `FAILS exec nobody true`, `FAILS rm cc`, `rm -f cc`),
		s("names", `CREATE --name cc busybox`, `CREATE --name cc busybox`, `CREATE --name a/b busybox`, `inspect -f '{{.State.Status}}' cc`, `rm cc`, `FAILS inspect cc`),
		s("stop and kill", `RUN -d --name cc busybox sleep 600`, `stop -t 0 cc`, `inspect -f '{{.State.ExitCode}}' cc`, `FAILS kill cc`, `start cc`, `kill -s KILL cc`, `wait cc`, `FAILS kill -s NOPE cc`, `rm cc`),
		s("stop by the image's signal", `RUN -d --name cc -u 0 --entrypoint sh ep -c 'trap "exit 8" USR2; touch /ready; while :; do sleep 0.05; done'`,
			`exec cc sh -c 'until [ -e /ready ]; do :; done'`, `stop cc`, `inspect -f '{{.State.ExitCode}}' cc`, `rm cc`),
		s("inspect", `CREATE --name cc -e A=1 --label l=v --hostname box -u user -w /tmp busybox sleep 600`,
			`inspect -f '{{.Config.User}} {{.Config.WorkingDir}} {{.Config.Hostname}} {{index .Config.Labels "l"}} {{.Path}} {{.Args}} {{.State.Running}}' cc`, `rm cc`),
		s("image", `inspect --type image -f '{{.Config.User}} {{.Config.WorkingDir}} {{.Config.Entrypoint}} {{.Config.Cmd}} {{index .Config.Labels "own"}} {{.Architecture}} {{.Os}}' ep`),
		s("filters", `CREATE --name c1 --label k=1 busybox`, `CREATE --name c2 --label k=2 busybox`, `ps -a --filter label=k=1 --format '{{.Names}}'`, `ps --format '{{.Names}}'`, `rm c1`, `rm c2`),
		// Podman's mounts are gone with the namespace of the command that made them, so it cannot restart what runs.
		s("restart", `CREATE --name cc busybox true`, `restart cc`, `wait cc`, `inspect -f '{{.RestartCount}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}' cc`, `FAILS restart nobody`, `rm cc`),
		s("restart policy", `RUN -d --name cc --restart on-failure:2 busybox sh -c 'echo run; exit 3'`, `UNTIL exited cc`, `logs cc`, `inspect -f '{{.RestartCount}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}} {{.State.ExitCode}}' cc`, `rm -f cc`,
			`FAILS CREATE --restart sometimes busybox`, `FAILS CREATE --restart always:3 busybox`),
		s("pause", `RUN -d --name cc busybox sleep 600`, `QUIET pause cc`, `inspect -f '{{.State.Status}} {{.State.Paused}}' cc`, `FAILS pause cc`, `FAILS exec cc true`, `ps -a --filter status=paused --format '{{.Names}}'`,
			`QUIET unpause cc`, `FAILS unpause cc`, `exec cc echo on`, `rm -f cc`, `FAILS pause cc`),
		s("rename", `CREATE --name cc busybox`, `CREATE --name dd busybox`, `rename cc ee`, `inspect -f '{{.State.Status}}' ee`, `FAILS inspect cc`, `FAILS rename ee dd`, `FAILS rename nobody ff`, `rm ee`, `rm dd`),
		s("update", `RUN -d --name cc -m 64m busybox sleep 600`, `QUIET update -m 96m --cpus 0.5 cc`, `exec cc sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu*/cpu.cfs_quota_us memory.max 2>/dev/null | uniq; true'`,
			`FAILS update -m much cc`, `FAILS update -m 64m nobody`, `rm -f cc`),
		s("health", `RUN -d --name cc --health-cmd 'echo looked; test -e /ok' --health-interval 500ms --health-retries 1 --health-timeout 5s busybox sleep 600`,
			`inspect -f '{{json .Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Retries}} {{.Config.Healthcheck.Timeout}}' cc`, `rm -f cc`,
			`FAILS CREATE --health-interval 5 --health-cmd x busybox`),
		s("log drivers", `RUN --name cc --log-driver none busybox echo said`, `FAILS logs cc`, `rm cc`, `FAILS CREATE --log-driver nonesuch busybox`),
		s("logs with options", `RUN --name cc busybox sh -c 'for i in 1 2 3; do echo $i; done'`, `logs --tail 2 cc`, `logs --since 1h cc`, `logs -f cc`, `logs --tail 0 cc`, `rm cc`),
		s("wait", `RUN -d --name cc busybox sh -c 'exit 6'`, `wait cc`, `FAILS wait nobody`, `FAILS wait --condition never cc`, `rm cc`),
		s("container", `CREATE --name cc --label k=1 busybox`, `container ls -a --format '{{.Names}}'`, `container inspect -f '{{.State.Status}}' cc`, `QUIET container prune -f --filter label=other`, `container ls -aq --no-trunc`, `container rm cc`, `FAILS container inspect cc`),
		s("stats", `RUN -d --name cc busybox sleep 600`, `stats --no-stream --format '{{.Name}} {{.PIDs}}' cc`, `FAILS stats --no-stream nobody`, `rm -f cc`),
		s("filters of ps", `RUN -d --name c1 busybox sleep 600`, `CREATE --name c2 busybox`, `ps -a --filter before=c2 --format '{{.Names}}'`, `ps -a --filter since=c1 --format '{{.Names}}'`, `ps -a --filter name=^c --filter status=created --format '{{.Names}}'`,
			`ps -l --format '{{.Names}}'`, `FAILS ps --filter colour=red`, `rm -f c1`, `rm c2`),
		s("stop a paused one", `RUN -d --name cc busybox sleep 600`, `QUIET pause cc`, `rm -f cc`, `FAILS inspect cc`),
		s("volumes", `volume create vv`, `RUN --rm -v vv:/data busybox sh -c 'echo x > /data/f'`, `RUN --rm -v vv:/data:ro busybox sh -c 'cat /data/f; touch /data/y'`,
			`volume ls -q`, `volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}}' vv`, `CREATE --name cc -v vv:/data busybox`, `FAILS volume rm vv`,
			`inspect -f '{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}' cc`, `RUN --rm --volumes-from cc:ro busybox sh -c 'ls /data; touch /data/z'`,
			`volume ls -q --filter dangling=true`, `rm cc`, `volume ls -q --filter dangling=true`, `volume rm vv`, `FAILS volume inspect vv`, `FAILS volume rm vv`),
		s("copy-up", `RUN --rm -v vv:/etc busybox grep -c ^root /etc/passwd`, `RUN --rm -v vv:/x:ro busybox grep -c ^root /x/passwd`, `RUN --rm -v v2:/tmp busybox stat -c %a /tmp`, `volume rm vv v2`),
		s("anonymous volumes", `RUN --rm -v /anon --mount type=volume,dst=/two busybox ls -A /anon /two`, `volume ls -q`),
		s("cp and diff", `CREATE --name cc busybox`, `cp DIR/file cc:/tmp/new`, `cp DIR/file cc:/tmp`, `FAILS cp DIR/file cc:/no/dir`, `FAILS cp cc:/missing DIR/out`, `FAILS cp DIR/missing cc:/tmp`,
			`FAILS cp DIR/file cc:/nodir/`, `FAILS cp cc:/etc DIR/file`, `diff cc`, `rm cc`),
		// Podman prints a network's name, Docker its ID; free ports differ.
		s("networks", `QUIET network create n1`, `FAILS network create n1`, `run -d --name cc --network n1 -p 127.0.0.1::80 busybox httpd -f -h /etc`, `QUIET port cc`, `QUIET port cc 80`,
			`FAILS network rm n1`, `rm -f cc`, `network rm n1`, `FAILS network rm n1`, `FAILS network inspect n1`),
		s("wishes of networks", `FAILS run --rm --network nowhere busybox true`, `FAILS run --rm -p x:80 busybox true`, `FAILS run --rm --ip 1.2.3 busybox true`, `FAILS run --rm --mac-address x busybox true`,
			`FAILS run --rm --network container:nobody busybox true`),
		s("addresses", `QUIET network create --subnet 10.252.3.0/24 --gateway 10.252.3.9 n1`, `run --rm --network n1 --ip 10.252.3.77 --mac-address 02:42:00:00:00:77 busybox sh -c 'ip -o -4 addr show eth0 | tr -s " " | cut -d" " -f4; cat /sys/class/net/eth0/address; ip route | grep default | tr -s " " | cut -d" " -f1-5'`,
			`network rm n1`),
		s("another's network", `run -d --name cc --hostname box busybox sleep 600`, `run --rm --network container:cc busybox sh -c 'ip -o link | wc -l'`, `rm -f cc`),
		s("low ports and ping", `run --rm --user 1000 busybox sh -c 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start >/dev/null; nc -l -p 80 -w 1 </dev/null; true'`),
		s("join a PID namespace", `RUN -d --name cc busybox sleep 600`, `RUN --rm --pid container:cc busybox sh -c 'ps | grep -c "[s]leep 600"'`, `rm -f cc`),
	}
}

// common makes the two alike. Podman's own higher limits cannot be set
// everywhere.
var common = []string{"--network", "none"}

func expand(step, dir string) []string {
	words := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(step, -1)
	var args []string
	for _, w := range words {
		w = strings.ReplaceAll(strings.Trim(w, "'"), "DIR", dir)
		switch w {
		case "RUN":
			args = append(append(args, "run"), common...)
		case "CREATE":
			args = append(append(args, "create"), common...)
		default:
			args = append(args, w)
		}
	}
	return args
}

func images(t *testing.T) (list []*harness.Image) {
	t.Helper()
	for _, name := range []string{"busybox", "ep", "empty"} {
		image, err := harness.Busybox("localhost/" + name)
		if err != nil {
			t.Fatal(err)
		}
		switch name {
		case "ep":
			c := &image.Config
			c.Entrypoint, c.Cmd = []string{"/bin/echo", "entry"}, []string{"image", "arg"}
			c.Env = append(c.Env, "EP=image")
			c.User, c.WorkingDir, c.StopSignal = "user", "/var", "SIGUSR2"
			c.Labels = map[string]string{"own": "yes"}
		case "empty":
			image.Config.Cmd = nil
		}
		list = append(list, image)
	}
	return list
}

func TestParity(t *testing.T) {
	podman := startPeer(t)
	root := harness.New(t)
	dir := filepath.Join(podman.dir, "data")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const profile = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`
	if err := os.WriteFile(filepath.Join(dir, "profile.json"), []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, image := range images(t) {
		if err := root.Load(image); err != nil {
			t.Fatal(err)
		}
		podman.load(t, image)
	}
	if res := podman.run(nil, expandForPodman(expand(`RUN --rm busybox true`, dir))...); res.Code != 0 {
		t.Skipf("podman cannot run a container on this machine: %s", res.Stderr)
	}
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			for _, step := range s.steps {
				step, fails := strings.CutPrefix(step, "FAILS ")
				step, quiet := strings.CutPrefix(step, "QUIET ")
				args := expand(step, dir)
				if args[0] == "UNTIL" {
					untilState(t, root, podman, args[1], args[2])
					continue
				}
				brig := root.RunInput(strings.NewReader(s.in), qualified(args)...)
				peer := podman.run([]byte(s.in), expandForPodman(args)...)
				if fails && brig.Code != 0 && peer.Code != 0 {
					brig.Code, peer.Code = -1, -1
				}
				if quiet {
					brig.Stdout, peer.Stdout = "", ""
				}
				if b, p := outcome(brig), outcome(peer); b != p {
					t.Errorf("%s\nbrig:   %s\n        %s\npodman: %s\n        %s", step, b, brig.Stderr, p, peer.Stderr)
				}
			}
		})
	}
}

// untilState waits until both say that a container has a state for good.
func untilState(t *testing.T, root *harness.Root, podman *peer, state, name string) {
	t.Helper()
	args := []string{"inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name}
	for _, run := range []func() harness.Result{func() harness.Result { return root.Run(args...) }, func() harness.Result { return podman.run(nil, args...) }} {
		if err := harness.Eventually(name+" is "+state, func() bool { return run().Output() == state+" 2" }); err != nil {
			t.Fatal(err)
		}
	}
}

// qualified names the images in full, as podman must have them.
func qualified(args []string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		if a == "busybox" || a == "ep" || a == "empty" {
			args[i] = "localhost/" + a
			break
		}
	}
	return args
}

// expandForPodman adds what podman needs here to the commands that make a
// container.
func expandForPodman(args []string) []string {
	args = qualified(args)
	if args[0] == "run" || args[0] == "create" {
		args = slices.Insert(args, 1, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
	}
	if args[0] == "rm" && args[1] == "-f" {
		args = slices.Insert(args, 1, "-t", "0") // it asks first, Docker kills
	}
	return args
}

// outcome is what is compared. IDs differ.
func outcome(r harness.Result) string {
	out := regexp.MustCompile(`\b[0-9a-f]{64}\b`).ReplaceAllString(r.Stdout, "ID")
	return fmt.Sprintf("exit code %d, output %q", r.Code, out)
}
