package engines

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// criTools is the version of crictl and critest, which are built once for a
// machine: that takes some minutes.
const criTools = "v1.37.0"

// buildCRI gives the directory of crictl and critest.
func buildCRI(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("BRIG_TEST_CACHE")
	if cache == "" {
		cache = "/var/cache/brig-test"
	}
	dir := filepath.Join(cache, "cri-tools-"+criTools)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	// The proxy of modules is not reachable from the tests' network.
	script := `set -e
src=$(go mod download -json sigs.k8s.io/cri-tools@` + criTools + ` | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
cp -r "$src" $1/src && chmod -R u+w $1/src && mkdir $1/bin && cd $1/src
export CGO_ENABLED=0 GOFLAGS=-mod=mod
go build -o $1/bin/crictl ./cmd/crictl
go test -c -o $1/bin/critest ./cmd/critest
mkdir -p $(dirname $2) && rm -rf $2.new && cp -r $1/bin $2.new && mv $2.new $2`
	work := scratch(t)
	cmd := exec.Command("nsenter", "--net="+os.Getenv(inside), "sh", "-c", script, "sh", work, dir)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/local/go/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build crictl and critest: %v\n%s", err, out[max(0, len(out)-3000):])
	}
	return dir
}

// kube is containerd with its CRI plugin, a pod network and a runtime.
type kube struct {
	*harness.Containerd
	tools string
}

func startKube(t *testing.T, runtime string) *kube {
	t.Helper()
	k := &kube{tools: buildCRI(t)}
	cni := scratch(t)
	network := `{"cniVersion": "0.4.0", "name": "brig", "plugins": [
{"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "` + cni + `/ipam", "subnet": "10.88.77.0/24", "routes": [{"dst": "0.0.0.0/0"}]}},
{"type": "loopback"}]}`
	if err := os.WriteFile(cni+"/10-brig.conflist", []byte(network), 0o644); err != nil {
		t.Fatal(err)
	}
	k.Containerd = harness.StartContainerd(t, `[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
  disable_apparmor = true
  # Root without CAP_SYS_RESOURCE may not lower the score of its children.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "`+cni+`"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "tested"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
  runtime_type = "io.containerd.runc.v2"
  pod_annotations = ["dev.brig.*"]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
  BinaryName = "`+runtime+`"
`)
	pause, err := harness.Busybox("localhost/pause")
	if err != nil {
		t.Fatal(err)
	}
	pause.Config.Entrypoint, pause.Config.Cmd = []string{"/bin/sleep", "1000000"}, nil
	k.Load(t, "k8s.io", pause)
	busybox, err := harness.Busybox("localhost/busybox")
	if err != nil {
		t.Fatal(err)
	}
	k.Load(t, "k8s.io", busybox)
	t.Cleanup(func() {
		k.crictl(nil, "rmp", "-fa")
		removeCgroups("k8s.io", "test.slice:cri-containerd:*") // no other kubelet is on the tests' host
	})
	return k
}

func (k *kube) endpoint() string { return "unix://" + k.Address() }

func (k *kube) crictl(in []byte, args ...string) harness.Result {
	cmd := exec.Command(k.tools+"/crictl", append([]string{"-r", k.endpoint(), "-i", k.endpoint(), "-t", "60s"}, args...)...)
	return harness.Finish(cmd)
}

func (k *kube) mustCrictl(t *testing.T, args ...string) string {
	t.Helper()
	res := k.crictl(nil, args...)
	if res.Code != 0 {
		t.Fatalf("crictl %v: %d: %s", args, res.Code, res.Stderr)
	}
	return strings.TrimSpace(res.Stdout)
}

// object is a part of a request of the CRI, which is protobuf's JSON.
type object = map[string]any

func jsonFile(t *testing.T, o object) string {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// start makes a container in a pod of its own and starts it.
func (k *kube) start(t *testing.T, name string, linux object, command ...string) string {
	t.Helper()
	logs := t.TempDir()
	pod := jsonFile(t, object{"metadata": object{"name": name, "namespace": "test", "uid": name, "attempt": 1}, "log_directory": logs, "linux": object{"cgroup_parent": "/k8s.io/" + name}})
	container := jsonFile(t, object{"metadata": object{"name": name}, "image": object{"image": "localhost/busybox:latest"}, "command": command, "log_path": "log", "linux": linux})
	p := k.mustCrictl(t, "runp", pod)
	t.Cleanup(func() { k.crictl(nil, "rmp", "-f", p) })
	id := k.mustCrictl(t, "create", p, container, pod)
	k.mustCrictl(t, "start", id)
	return id
}

// What the kubelet does with pods and containers.
func TestKubernetes(t *testing.T) {
	k := startKube(t, brigRuntime(t))
	t.Run("life", func(t *testing.T) {
		id := k.start(t, "life", object{"resources": object{"memory_limit_in_bytes": 67108864, "cpu_shares": 300, "cpu_quota": 40000, "cpu_period": 80000}},
			"sh", "-c", "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done")
		if out := k.mustCrictl(t, "exec", id, "sh", "-c", "echo in; id -u"); out != "in\n0" {
			t.Errorf("exec printed %q", out)
		}
		if out := k.mustCrictl(t, "exec", "-s", id, "sh", "-c", "echo sync"); out != "sync" {
			t.Errorf("exec -s printed %q", out)
		}
		if res := k.crictl(nil, "exec", id, "sh", "-c", "exit 5"); res.Code == 0 {
			t.Errorf("exec: %+v", res)
		}
		if res := k.crictl(nil, "exec", "-s", id, "nonesuch"); res.Code == 0 || !strings.Contains(res.Stderr, "executable file not found in $PATH") {
			t.Errorf("exec of nothing: %+v", res)
		}
		limit := func() string {
			return k.mustCrictl(t, "exec", "-s", id, "sh", "-c", "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null; true")
		}
		if got := limit(); got != "67108864" {
			t.Errorf("memory is limited to %s", got)
		}
		k.mustCrictl(t, "update", "--memory", "134217728", "--cpu-share", "512", id)
		if got := limit(); got != "134217728" {
			t.Errorf("after an update memory is limited to %s", got)
		}
		if err := harness.Eventually("log", func() bool { return k.mustCrictl(t, "logs", id) == "up" }); err != nil {
			t.Error(err)
		}
		k.mustCrictl(t, "stop", "--timeout", "20", id)
		if out := k.mustCrictl(t, "logs", id); out != "up\nbye" {
			t.Errorf("logs %q", out)
		}
		if out := k.mustCrictl(t, "inspect", "-o", "go-template", "--template", "{{.status.state}} {{.status.exitCode}}", id); out != "CONTAINER_EXITED 9" {
			t.Errorf("inspect: %s", out)
		}
	})
	t.Run("capabilities", func(t *testing.T) {
		id := k.start(t, "caps", object{"security_context": object{"capabilities": object{"drop_capabilities": []string{"ALL"}, "add_capabilities": []string{"CHOWN"}}}}, "sleep", "1000")
		if out := k.mustCrictl(t, "exec", "-s", id, "grep", "CapEff", "/proc/self/status"); !strings.HasSuffix(out, "0000000000000001") {
			t.Errorf("%s", out)
		}
	})
	t.Run("record", func(t *testing.T) {
		id := k.start(t, "busy", nil, "sh", "-c", "while :; do chown 1 /tmp; sleep 0.05; done")
		brig, file := harness.New(t), filepath.Join(t.TempDir(), "busy.policy.json")
		brig.Must(t, "record", "--container", id, "--for", "1s", "-o", file)
		shown := brig.Must(t, "policy", "show", file)
		for _, want := range []string{"1 capabilities granted", "CHOWN ", " chown ", " execve "} {
			if !strings.Contains(shown, want) {
				t.Errorf("no %q in\n%s", want, shown)
			}
		}
	})
	local := filepath.Join(workDir(t), "profile.json")
	for name, tt := range map[string]struct {
		seccomp object
		mode    string
		mkdir   bool
	}{
		"runtime-default": {object{"profile_type": 0}, "2", true},
		"unconfined":      {object{"profile_type": 1}, "0", true},
		"localhost":       {object{"profile_type": 2, "localhost_ref": local}, "2", false},
	} {
		t.Run(name, func(t *testing.T) {
			id := k.start(t, name, object{"security_context": object{"seccomp": tt.seccomp}}, "sleep", "1000")
			if out := k.mustCrictl(t, "exec", "-s", id, "grep", "Seccomp:", "/proc/self/status"); !strings.HasSuffix(out, tt.mode) {
				t.Errorf("%s, want mode %s", out, tt.mode)
			}
			if res := k.crictl(nil, "exec", "-s", id, "mkdir", "/x"); (res.Code == 0) != tt.mkdir {
				t.Errorf("mkdir: %+v", res)
			}
		})
	}
}

// The kubelet's conformance tests, by the project itself.
func TestCRITest(t *testing.T) {
	passed := 0
	for name, failure := range critest(t, brigRuntime(t)) {
		if failure != "" {
			t.Errorf("%s: %s", name, failure)
			continue
		}
		passed++
	}
	if t.Logf("%d pass", passed); passed < 50 {
		t.Errorf("only %d tests were run and pass", passed)
	}
}

// skipped tests fail here with runc, too: they need images from the Internet, a
// newer containerd than Debian's (idempotence, OOMKilled, metrics), programs that
// busybox lacks (execSync with timeout) or has not in files of their own
// (MaskedPaths), or figures of cgroups that containerd
// 1.6 does not find on hybrid hosts (stats).
var skipped = []string{"image", "Image", "metrics", "AppArmor", "SELinux", "NRI", "userns", "User Namespaces", "checkpoint", "portforward", "port mapping", "DNS config",
	"should not allow privilege", "should allow privilege", "HostNetwork", "Multiple Containers", "HostPID", "HostIpc", "PodPID", "ContainerPID", "Idempotence", "OOMKilled", "MaskedPaths", "listing container stats", "execSync with timeout"}

// critest gives the failure of every test that was run, "" for those that passed.
func critest(t *testing.T, runtime string) map[string]string {
	t.Helper()
	k := startKube(t, runtime)
	dir := scratch(t)
	images := "defaultTestContainerImage: localhost/busybox:latest\nwebServerTestImage: localhost/busybox:latest\n"
	if err := os.WriteFile(dir+"/images", []byte(images), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(k.tools+"/critest", "-runtime-endpoint", k.endpoint(), "-image-endpoint", k.endpoint(), "-test-images-file", dir+"/images",
		"-ginkgo.no-color", "-ginkgo.skip", strings.Join(skipped, "|"), "-ginkgo.junit-report", dir+"/report.xml")
	out, err := cmd.CombinedOutput()
	report, rerr := os.ReadFile(dir + "/report.xml")
	if rerr != nil {
		t.Fatalf("critest: %v\n%s", err, out[max(0, len(out)-3000):])
	}
	return junit(t, report)
}

// junit reads a report of JUnit's form.
func junit(t *testing.T, report []byte) map[string]string {
	t.Helper()
	var suites struct {
		Cases []struct {
			Name    string `xml:"name,attr"`
			Status  string `xml:"status,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
			} `xml:"failure"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(report, &suites); err != nil {
		t.Fatal(err)
	}
	results := map[string]string{}
	for _, c := range suites.Cases {
		switch {
		// Others than [It] are steps around the tests.
		case slices.Contains([]string{"skipped", "pending"}, c.Status) || !strings.HasPrefix(c.Name, "[It]"):
		case c.Failure != nil:
			results[c.Name] = fmt.Sprint("fails: ", c.Failure.Message)
		default:
			results[c.Name] = ""
		}
	}
	return results
}
