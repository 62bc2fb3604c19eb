package faults

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

// freePort is a port of the host that nobody uses now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// answers waits until a container's web server answers at a port of the host.
func answers(t *testing.T, port string) {
	t.Helper()
	if err := harness.Eventually("an answer from port "+port, func() bool {
		out, err := exec.Command("curl", "-s", "-m", "2", "http://127.0.0.1:"+port+"/passwd").Output()
		return err == nil && strings.HasPrefix(string(out), "root:")
	}); err != nil {
		t.Fatal(err)
	}
}

// TestKilledNetwork kills commands at random moments of setting up networks. What
// they leave is gone with the next command, and port and address can be had again.
func TestKilledNetwork(t *testing.T) {
	root := harness.NewWithBusybox(t)
	random := newRand(t)
	port := freePort(t)
	root.Must(t, "network", "create", "--ipv6", "lab")
	run := []string{"run", "-d", "--name", "box", "--network", "lab", "-p", port + ":80", "busybox", "httpd", "-f", "-h", "/etc"}
	span := normal(t, root, "run", "--rm", "--network", "lab", "-p", port+":80", "busybox", "true")
	commands := []struct {
		name  string
		args  []string
		setUp [][]string
	}{
		{name: "run -d", args: run},
		{name: "run --rm", args: []string{"run", "--rm", "--network", "lab", "-p", port + ":80", "busybox", "true"}},
		{name: "the first of its bridge", args: run, setUp: [][]string{{"network", "prune", "-f", "--filter", "label=none"}, {"network", "rm", "lab"}, {"network", "create", "lab"}}},
		{name: "connect", args: []string{"network", "connect", "lab", "box"}, setUp: [][]string{{"run", "-d", "--name", "box", "busybox", "sleep", "600"}}},
		{name: "disconnect", args: []string{"network", "disconnect", "lab", "box"}, setUp: [][]string{run}},
		{name: "start", args: []string{"start", "box"}, setUp: [][]string{append([]string{"create"}, run[2:]...)}},
	}
	for i := range rounds() {
		c := commands[i%len(commands)]
		for _, s := range c.setUp {
			root.Must(t, s...)
		}
		cmd := root.Command(c.args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration(random.Int64N(int64(span) * 5 / 4))
		time.Sleep(after)
		cmd.Process.Kill()
		cmd.Wait()
		consistent(t, root, fmt.Sprintf("%s killed after %s", c.name, after))
		settle(t, root)
		root.Must(t, run...)
		answers(t, port)
		settle(t, root)
		if t.Failed() {
			t.Logf("%s killed after %s", c.name, after)
			return
		}
	}
}

// TestKilledMonitorNetwork kills the monitor, which cannot clean up, and then the
// container: the next command can have the port and the address at once.
func TestKilledMonitorNetwork(t *testing.T) {
	root := harness.NewWithBusybox(t)
	port := freePort(t)
	root.Must(t, "network", "create", "--subnet", "10.251.44.0/24", "lab")
	run := func(name string) []string {
		return []string{"run", "-d", "--name", name, "--network", "lab", "--ip", "10.251.44.7", "-p", port + ":80", "busybox", "httpd", "-f", "-h", "/etc"}
	}
	for i := range 3 {
		name := fmt.Sprintf("box%d", i)
		root.Must(t, run(name)...)
		answers(t, port)
		pid := pidOf(t, root, name)
		unix.Kill(parent(t, pid), unix.SIGKILL)
		if i == 0 {
			// It lives on without; nobody can have its port.
			other := append([]string{"run", "--rm", "-p", port + ":80"}, "busybox", "true")
			if res := root.Run(other...); res.Code != 125 || !strings.Contains(res.Stderr, "port") {
				t.Errorf("the port of a container without monitor: exit code %d, %s", res.Code, res.Stderr)
			}
			answers(t, port)
		}
		unix.Kill(pid, unix.SIGKILL)
		if err := harness.Eventually("the container ends with its monitor", func() bool { return !harness.Alive(pid) }); err != nil {
			t.Fatal(err)
		}
	}
	// The first two are mended only now, and must not take the third one's.
	root.Must(t, run("last")...)
	answers(t, port)
	root.Must(t, "ps", "-a")
	answers(t, port)
	if got := root.Must(t, "network", "inspect", "-f", "{{len .Containers}}", "lab"); got != "1" {
		t.Errorf("%s containers in the network", got)
	}
}

// TestRebootedNetwork makes what a reboot leaves: files that say that containers
// run, and a kernel that knows of nothing.
func TestRebootedNetwork(t *testing.T) {
	root := harness.NewWithBusybox(t)
	port := freePort(t)
	root.Must(t, "network", "create", "--subnet", "10.251.45.0/30", "lab")
	run := []string{"run", "-d", "--name", "web", "--network", "lab", "-p", port + ":80", "busybox", "httpd", "-f", "-h", "/etc"}
	id := root.Must(t, run...)
	state := filepath.Join(root.Dir, "containers", id, "state.json")
	saved, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	undo, err := os.ReadFile(filepath.Join(root.Dir, "containers", id, "network.undo"))
	if err != nil {
		t.Fatal(err)
	}
	addresses, _ := filepath.Glob(filepath.Join(root.Dir, "networks", "lab", "endpoints", "*"))
	if len(addresses) != 1 {
		t.Fatalf("addresses: %q", addresses)
	}
	endpoint, err := os.ReadFile(addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	root.Must(t, "stop", "-t", "0", "web")
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	old := strings.Replace(string(saved), strings.TrimSpace(string(boot)), "00000000-0000-0000-0000-000000000000", 1)
	for name, text := range map[string]string{state: old, filepath.Join(root.Dir, "containers", id, "network.undo"): string(undo), addresses[0]: string(endpoint)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range root.Bridges() {
		exec.Command("ip", "link", "del", b).Run()
	}
	exec.Command("nft", "delete", "table", "inet", root.Table()).Run()

	// Another takes the only address and the port before anybody looks at the old.
	root.Must(t, "run", "-d", "--name", "other", "--network", "lab", "-p", port+":80", "busybox", "httpd", "-f", "-h", "/etc")
	answers(t, port)
	if got := root.Must(t, "inspect", "-f", "{{.State.Status}}", "web"); got != "exited" {
		t.Errorf("status %s", got)
	}
	answers(t, port)
	root.Must(t, "rm", "-f", "other")
	root.Must(t, "start", "web")
	answers(t, port)
}

// TestNetworkCycles starts and stops containers many times, several at once, and
// looks for what is left. FAULTS_CYCLES says how often.
func TestNetworkCycles(t *testing.T) {
	cycles := 100
	if n, err := strconv.Atoi(os.Getenv("FAULTS_CYCLES")); err == nil {
		cycles = n
	}
	root := harness.NewWithBusybox(t)
	root.Must(t, "network", "create", "lab")
	root.Must(t, "run", "--rm", "busybox", "true")
	before := interfaces(root)
	var wg sync.WaitGroup
	const workers = 4
	for w := range workers {
		wg.Go(func() {
			for i := range cycles / workers {
				args := []string{"run", "--rm", "-p", "80", "-p", "53/udp", "busybox", "true"}
				if i%2 == w%2 {
					args = append([]string{"run", "--rm", "--network", "lab"}, args[2:]...)
				}
				if res := root.Run(args...); res.Code != 0 {
					t.Errorf("brig %s: %s", strings.Join(args, " "), res.Stderr)
					return
				}
			}
		})
	}
	wg.Wait()
	settle(t, root)
	if err := harness.Eventually("the interfaces are gone", func() bool { return interfaces(root) <= before }); err != nil {
		t.Errorf("%v: %d interfaces, %d before", err, interfaces(root), before)
	}
	out, err := exec.Command("nft", "list", "table", "inet", root.Table()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "tcp .") || strings.Contains(string(out), "udp .") {
		t.Errorf("published ports are left:\n%s", out)
	}
}

// interfaces counts the interfaces of the store's bridges.
func interfaces(root *harness.Root) (n int) {
	for _, b := range root.Bridges() {
		list, _ := filepath.Glob("/sys/class/net/" + b + "/brif/*")
		n += len(list)
	}
	return n
}
