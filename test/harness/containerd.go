package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// WithoutCRI is for StartContainerd: a configuration without Kubernetes's part.
const WithoutCRI = `disabled_plugins = ["io.containerd.grpc.v1.cri"]` + "\n"

// Containerd is a daemon of a test's own.
type Containerd struct{ Dir string }

// StartContainerd starts it with more of a configuration than where its files
// are. It ends with the test.
func StartContainerd(tb testing.TB, more string) *Containerd {
	tb.Helper()
	dir, err := os.MkdirTemp(Scratch(), "brig-containerd-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	c := &Containerd{dir}
	config := fmt.Sprintf("version = 2\nroot = %[1]q\nstate = %[2]q\ngrpc.address = %[3]q\nttrpc.address = %[4]q\n",
		dir+"/root", dir+"/state", c.Address(), dir+"/ttrpc") + more
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o644); err != nil {
		tb.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	daemon := exec.Command("containerd", "--config", filepath.Join(dir, "config.toml"))
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		tb.Fatalf("the peers are needed, see test/packages: %v", err)
	}
	said := func() string {
		text, _ := os.ReadFile(log.Name())
		return string(text[max(0, len(text)-4000):])
	}
	tb.Cleanup(func() {
		daemon.Process.Signal(os.Interrupt)
		daemon.Wait()
		if tb.Failed() {
			tb.Logf("the end of the daemon's log: %s", said())
		}
	})
	if err := Eventually("containerd answers", func() bool { return c.Ctr(nil, "version").Code == 0 }); err != nil {
		tb.Fatal(err)
	}
	return c
}

// Address is where the daemon listens.
func (c *Containerd) Address() string { return filepath.Join(c.Dir, "sock") }

// Ctr runs a command of ctr with some input.
func (c *Containerd) Ctr(in []byte, args ...string) Result {
	cmd := exec.Command("ctr", append([]string{"-a", c.Address()}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	return Finish(cmd)
}

// Must runs a command of ctr; the test ends if that fails.
func (c *Containerd) Must(tb testing.TB, args ...string) string {
	tb.Helper()
	res := c.Ctr(nil, args...)
	if res.Code != 0 {
		tb.Fatalf("ctr %v: %d: %s", args, res.Code, res.Stderr)
	}
	return res.Stdout
}

// Load imports an image into a namespace, and gives its name there.
func (c *Containerd) Load(tb testing.TB, namespace string, image *Image) string {
	tb.Helper()
	in := []string{"-n", namespace, "image"}
	base, _, _ := strings.Cut(image.Name, ":")
	if res := c.Ctr(Archive(tb, image), append(in, "import", "--base-name", base, "-")...); res.Code != 0 {
		tb.Fatalf("ctr image import: %s", res.Stderr)
	}
	for name := range strings.FieldsSeq(c.Must(tb, append(in, "ls", "-q")...)) {
		if strings.HasPrefix(name, base+":") {
			return name
		}
	}
	tb.Fatalf("ctr imported %s, and has it not", image.Name)
	return ""
}
