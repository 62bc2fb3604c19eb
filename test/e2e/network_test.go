package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// outside is another host: a network namespace with a cable to this one.
type outside struct {
	t        *testing.T
	ns       string
	us, them string // addresses of the cable's ends
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	n := os.Getpid() % 16384
	h := &outside{t: t, ns: fmt.Sprintf("brig-e2e-%d", os.Getpid()),
		us: fmt.Sprintf("198.19.%d.%d", n/64, n%64*4+1), them: fmt.Sprintf("198.19.%d.%d", n/64, n%64*4+2)}
	cable := fmt.Sprintf("be%d", os.Getpid())
	for _, args := range []string{
		"netns add " + h.ns, "link add " + cable + " type veth peer name cable netns " + h.ns,
		"addr add " + h.us + "/30 dev " + cable, "link set " + cable + " up",
		"-n " + h.ns + " addr add " + h.them + "/30 dev cable", "-n " + h.ns + " link set cable up", "-n " + h.ns + " link set lo up",
		"-n " + h.ns + " route add default via " + h.us,
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %s", args, out)
		}
		if strings.HasPrefix(args, "netns add") {
			t.Cleanup(func() { exec.Command("ip", "netns", "del", h.ns).Run() })
		}
	}
	return h
}

// run runs a command there, and gives its output.
func (h *outside) run(args ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", h.ns}, args...)...).Output()
	return strings.TrimSpace(string(out)), err
}

// start runs a command there for the rest of the test.
func (h *outside) start(args ...string) {
	h.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.ns}, args...)...)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// peers is a web server that tells its clients who they are, and an echo by UDP
// that does so.
const peers = `
import http.server, socket, socketserver, sys, threading
class W(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(self.client_address[0].replace("::ffff:", "").encode())
    def log_message(self, *a): pass
class U(socketserver.BaseRequestHandler):
    def handle(self): self.request[1].sendto(self.client_address[0].replace("::ffff:", "").encode(), self.client_address)
class S(http.server.ThreadingHTTPServer): address_family = socket.AF_INET6
class D(socketserver.ThreadingUDPServer): address_family = socket.AF_INET6
threading.Thread(target=D(("::", int(sys.argv[1])), U).serve_forever, daemon=True).start()
S(("::", int(sys.argv[1])), W).serve_forever()
`

// ask asks a server of peers by UDP.
const ask = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3); s.connect((sys.argv[1], int(sys.argv[2]))); s.send(b"x"); print(s.recv(100).decode())
`

// TestNetworkHosts has three hosts: containers, this one, and one outside.
func TestNetworkHosts(t *testing.T) {
	root := harness.NewWithBusybox(t)
	out := newOutside(t)
	out.start("python3", "-c", peers, "80")

	// The server runs in the container's network, with this host's python.
	root.Must(t, "run", "-d", "--name", "web", "-p", out.us+"::80", "-p", out.us+"::80/udp", "-p", "81:80", "busybox", "sleep", "1000")
	address := root.Must(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
	pid := root.Must(t, "inspect", "-f", "{{.State.Pid}}", "web")
	server := exec.Command("nsenter", "-n", "-t", pid, "python3", "-c", peers, "80")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	port := func(spec string) string {
		list := strings.Fields(root.Must(t, "port", "web", spec))
		return list[0][strings.LastIndexByte(list[0], ':')+1:]
	}
	curl := []string{"curl", "-s", "-g", "-m", "5"}

	// From outside to a published port: by the outside's own address.
	if err := harness.Eventually("the container's server answers", func() bool {
		got, err := out.run(append(curl, "http://"+out.us+":"+port("80/tcp"))...)
		return err == nil && got == out.them
	}); err != nil {
		got, err2 := out.run(append(curl, "http://"+out.us+":"+port("80/tcp"))...)
		t.Fatalf("%v: %q, %v", err, got, err2)
	}
	if got, err := out.run("python3", "-c", ask, out.us, port("80/udp")); err != nil || got != out.them {
		t.Errorf("UDP from outside: %q, %v", got, err)
	}
	// From this host by its loopback, where the port is published there.
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		if got, err := exec.Command("curl", append(curl[1:], "http://"+host+":81")...).Output(); err != nil || len(got) == 0 {
			t.Errorf("from %s: %q, %v", host, got, err)
		}
	}
	// Not where it is not published, nor past the host.
	for _, to := range []string{"127.0.0.1:" + port("80/udp")} {
		if got, err := exec.Command("curl", append(curl[1:], "http://"+to)...).Output(); err == nil {
			t.Errorf("%s answers %q", to, got)
		}
	}
	if got, err := out.run("curl", "-s", "-m", "2", "http://"+address+":80"); err == nil {
		t.Errorf("from outside, past the published ports, it answers %q", got)
	}
	// From a container to the outside: by this host's address.
	if err := harness.Eventually("the outside answers", func() bool {
		return root.Run("run", "--rm", "busybox", "wget", "-qO-", "http://"+out.them+"/").Output() == out.us
	}); err != nil {
		res := root.Run("run", "--rm", "busybox", "wget", "-qO-", "http://"+out.them+"/")
		t.Errorf("%v: %+v", err, res)
	}
	// Not from an internal network.
	root.Must(t, "network", "create", "--internal", "vault")
	if res := root.Run("run", "--rm", "--network", "vault", "busybox", "wget", "-qO-", "http://"+out.them+"/"); res.Code == 0 {
		t.Errorf("an internal network reaches the outside: %s", res.Stdout)
	}
	if res := root.Run("run", "--rm", "--network", "vault", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", "ip route add default via $(ip route | sed 's/\\.0\\/24.*/.1/;q'); wget -qO- http://"+out.them+"/"); res.Code == 0 {
		t.Errorf("an internal network reaches the outside by a route of its own: %s", res.Stdout)
	}
}

// TestNetworkLoopbackUDP reaches a published UDP port by this host's loopback.
func TestNetworkLoopbackUDP(t *testing.T) {
	root := harness.NewWithBusybox(t)
	root.Must(t, "run", "-d", "--name", "echo", "-p", "53/udp", "busybox", "sleep", "1000")
	server := exec.Command("nsenter", "-n", "-t", root.Must(t, "inspect", "-f", "{{.State.Pid}}", "echo"), "python3", "-c", peers, "53")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	port := root.Must(t, "inspect", "-f", `{{(index .NetworkSettings.Ports "53/udp" 0).HostPort}}`, "echo")
	for _, host := range []string{"127.0.0.1", "::1"} {
		if err := harness.Eventually("an answer by "+host, func() bool {
			return exec.Command("python3", "-c", ask, host, port).Run() == nil
		}); err != nil {
			t.Error(err)
		}
	}
}
