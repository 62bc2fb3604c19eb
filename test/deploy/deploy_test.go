// Package deploy checks what is in deploy/: manifests against the real schemas, and
// the installer against containerd.
package deploy

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const top = "../../deploy/"

// operator is the module that has the definition of SeccompProfile.
const operator = "sigs.k8s.io/security-profiles-operator@v0.10.0"

func definition(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", operator)
	cmd.Dir = t.TempDir() // its own requirements are no matter of Brig's
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if jerr := json.Unmarshal(out, &module); jerr != nil || module.Dir == "" {
		t.Fatalf("go mod download %s: %v %s", operator, err, module.Error)
	}
	return filepath.Join(module.Dir, "deploy/base-crds/crds/seccompprofile.yaml")
}

// schemas builds the program that knows Kubernetes' types.
func schemas(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "schemas")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir, cmd.Env = "schemas", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// exported writes what brig collect makes of policies of two replicas for the
// Security Profiles Operator.
func exported(t *testing.T) string {
	t.Helper()
	r, dir := harness.New(t), t.TempDir()
	for i, calls := range [][]string{{"read", "chown"}, {"read", "personality"}} {
		rec := &record.Recording{Version: 1, Started: time.Unix(int64(1000+i), 0), Complete: true, Denials: []record.Denial{
			{Syscall: "clone3", ABI: "amd64", Program: "p", Errno: "ENOSYS", By: "seccomp", Count: 1}}}
		for nr, c := range calls {
			rec.Syscalls = append(rec.Syscalls, record.Syscall{ABI: "amd64", Nr: uint32(nr), Name: c, Count: 1, Args: []record.ArgValues{{Index: 0, Values: []uint64{8}}}})
		}
		p, err := policy.FromRecording(rec, policy.Run{ID: "run" + rec.Started.String(), Purpose: policy.PurposeLearn})
		if err != nil {
			t.Fatal(err)
		}
		p.Image = &policy.Image{Reference: "docker.io/library/nginx:1.29"}
		for n := range p.Syscalls {
			if c := &p.Syscalls[n]; c.Name == "personality" {
				c.Args[0].Enforce = true
			}
		}
		b, err := p.Encode()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, p.Runs[0].ID[3:]+".policy.json"), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "merged")
	r.Must(t, "collect", "--dir", dir, "-o", out, "--to", "spo")
	return filepath.Join(out, "spo", "nginx-1-29.yaml")
}

func TestManifests(t *testing.T) {
	bin, crd := schemas(t), definition(t)
	files, err := filepath.Glob(top + "*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	out, err := exec.Command(bin, append([]string{crd}, append(files, exported(t))...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"daemonset.yaml: Namespace DaemonSet\n", "runtimeclass.yaml: RuntimeClass\n", "nginx-1-29.yaml: SeccompProfile\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// The check finds mistakes.
	for name, text := range map[string]string{
		"typo":    "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: x}\nhandlr: brig\n",
		"type":    "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: x}\nspec: {template: {spec: {hostPID: 3}}}\n",
		"version": "apiVersion: node.k8s.io/v9\nkind: RuntimeClass\nmetadata: {name: x}\nhandler: brig\n",
		"action":  "apiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\nmetadata: {name: x}\nspec: {defaultAction: SCMP_ACT_NO}\n",
		"field":   "apiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\nmetadata: {name: x}\nspec: {defaultAction: SCMP_ACT_ERRNO, sycalls: []}\n",
	} {
		file := filepath.Join(t.TempDir(), name+".yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(bin, crd, file).CombinedOutput(); err == nil {
			t.Errorf("%s passes: %s", name, out)
		}
	}
}

// node is a directory with a node's files.
type node struct {
	*testing.T
	host, brig string
}

func newNode(t *testing.T, config string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{t, filepath.Join(dir, "host"), filepath.Join(dir, "brig")}
	if err := os.WriteFile(n.brig, []byte("the binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	if config != "" {
		if err := os.MkdirAll(filepath.Dir(n.config()), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(n.config(), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func (n *node) config() string { return filepath.Join(n.host, "etc/containerd/config.toml") }

// install runs the installer in busybox's shell with its commands, as in the image,
// and says whether containerd was started anew.
func (n *node) install(args ...string) (restarted bool, res harness.Result) {
	n.Helper()
	mark := filepath.Join(n.host, "..", "restarted")
	os.Remove(mark)
	cmd := exec.Command("busybox", append([]string{"sh", top + "install.sh"}, args...)...)
	cmd.Env = []string{"PATH=" + n.path(), "HOST=" + n.host, "BRIG=" + n.brig, "RESTART=touch " + mark}
	res = harness.Finish(cmd)
	_, err := os.Stat(mark)
	return err == nil, res
}

// path is a directory with busybox's commands alone.
func (n *node) path() string {
	n.Helper()
	dir := filepath.Join(n.host, "..", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.Fatal(err)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		n.Fatal(err)
	}
	if out, err := exec.Command(busybox, "--install", "-s", dir).CombinedOutput(); err != nil {
		n.Fatalf("%v: %s", err, out)
	}
	return dir
}

func (n *node) read(name string) string {
	n.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		n.Fatal(err)
	}
	return string(b)
}

// dump is the configuration as containerd understands it.
func (n *node) dump() string {
	n.Helper()
	var errs bytes.Buffer
	cmd := exec.Command("containerd", "--config", n.config(), "config", "dump")
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		n.Fatalf("containerd config dump: %v\n%s", err, errs.String())
	}
	return string(out)
}

// starts says whether containerd's CRI plugin comes up with the configuration.
func (n *node) starts() {
	n.Helper()
	dir, err := os.MkdirTemp(harness.Scratch(), "brig-deploy-")
	if err != nil {
		n.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var log bytes.Buffer
	daemon := exec.Command("containerd", "--config", n.config(), "--root", dir+"/root", "--state", dir+"/state", "--address", dir+"/sock")
	daemon.Stdout, daemon.Stderr = &log, &log
	if err := daemon.Start(); err != nil {
		n.Fatal(err)
	}
	ctr := func(args ...string) harness.Result {
		return harness.Finish(exec.Command("ctr", append([]string{"-a", dir + "/sock"}, args...)...))
	}
	up := harness.Eventually("containerd answers", func() bool { return ctr("version").Code == 0 })
	plugins := ctr("plugins", "ls")
	daemon.Process.Signal(os.Interrupt)
	daemon.Wait()
	for line := range strings.Lines(plugins.Stdout) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "cri" && f[len(f)-1] == "ok" {
			return
		}
	}
	n.Errorf("containerd's CRI plugin does not come up: %v\n%s\n%s", up, plugins.Stdout, log.String())
}

// section is a table of the dump.
func section(dump, name string) string {
	_, after, _ := strings.Cut(dump, name)
	part, _, _ := strings.Cut(after, "[plugins")
	return part
}

func TestInstaller(t *testing.T) {
	const own = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"example.org/pause:1\"\n" +
		"[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n" +
		"  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n    SystemdCgroup = true\n"
	for _, config := range []string{own, ""} {
		n := newNode(t, config)
		if restarted, res := n.install(); res.Code != 0 || !restarted {
			t.Fatalf("restarted %v: %+v", restarted, res)
		}
		if got := n.read(filepath.Join(n.host, "usr/local/bin/brig-runtime")); got != "the binary" {
			t.Errorf("installed %q", got)
		}
		n.starts()
		dump := n.dump()
		part := section(dump, "runtimes.brig]") + section(dump, "runtimes.brig.options]")
		for _, want := range []string{`runtime_type = "io.containerd.runc.v2"`, `BinaryName = "/usr/local/bin/brig-runtime"`, `pod_annotations = ["dev.brig.*"]`, `container_annotations = ["dev.brig.*"]`} {
			if !strings.Contains(part, want) {
				t.Errorf("no %s in\n%s", want, part)
			}
		}
		if want := config == own; strings.Contains(part, "SystemdCgroup = true") != want {
			t.Errorf("systemd is not as for runc in\n%s", part)
		}
		if config == own && !strings.Contains(dump, `sandbox_image = "example.org/pause:1"`) {
			t.Error("the node's own settings are lost")
		}
		// Again, nothing changes; a new binary needs no restart.
		if restarted, res := n.install(); restarted || res.Code != 0 || res.Stdout != "" {
			t.Errorf("again: restarted %v, %+v", restarted, res)
		}
		os.WriteFile(n.brig, []byte("a new one"), 0o755)
		if restarted, res := n.install(); restarted || res.Code != 0 || n.read(filepath.Join(n.host, "usr/local/bin/brig-runtime")) != "a new one" {
			t.Errorf("a new binary: restarted %v, %+v", restarted, res)
		}
		if restarted, res := n.install("remove"); !restarted || res.Code != 0 {
			t.Errorf("remove: restarted %v, %+v", restarted, res)
		}
		if got := n.read(n.config()); config != "" && got != config {
			t.Errorf("after all:\n%s", got)
		}
		if left, _ := filepath.Glob(filepath.Join(n.host, "usr/local/bin/*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// containerd 2 has the section elsewhere.
func TestInstallerVersion3(t *testing.T) {
	n := newNode(t, "version = 3\n")
	if restarted, res := n.install(); res.Code != 0 || !restarted {
		t.Fatalf("restarted %v: %+v", restarted, res)
	}
	out, err := exec.Command("python3", "-c", `import tomllib, json, sys
print(json.dumps(tomllib.load(open(sys.argv[1], "rb"))["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["brig"]))`, n.config()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"BinaryName": "/usr/local/bin/brig-runtime", "SystemdCgroup": false`) {
		t.Errorf("%v: %s\n%s", err, out, n.read(n.config()))
	}
}

// What the installer does not understand it leaves alone.
func TestInstallerRefuses(t *testing.T) {
	for config, want := range map[string]string{
		"[plugins.cri]\n": "no version = 2 or 3",
		"version = 1\n":   "no version = 2 or 3",
		"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.brig]\n  runtime_type = \"x\"\n": "not of this script",
	} {
		n := newNode(t, config)
		restarted, res := n.install()
		if res.Code == 0 || restarted || !strings.Contains(res.Stderr, want) {
			t.Errorf("%q: restarted %v: %+v", config, restarted, res)
		}
		if got := n.read(n.config()); got != config {
			t.Errorf("%q became %q", config, got)
		}
		if left, _ := filepath.Glob(filepath.Join(n.host, "etc/containerd/*")); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
	}
	if _, res := newNode(t, "").install("instal"); res.Code == 0 || !strings.Contains(res.Stderr, "want install or remove") {
		t.Errorf("%+v", res)
	}
}
