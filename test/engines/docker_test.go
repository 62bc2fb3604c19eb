package engines

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// docker is Docker's client with a daemon of a test's own, and a runtime.
type docker struct{ dir, runtime string }

// dockerd starts a daemon that knows Brig as the runtime "brig". It has no
// bridge: containers get network none unless they ask for another.
func dockerd(t *testing.T, runtime string) string {
	t.Helper()
	dir := scratch(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--host", "unix://"+dir+"/sock",
		"--config-file", dir+"/none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none", "--storage-driver", "overlay2",
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/brig-test-docker",
		// The defaults are above what root without CAP_SYS_RESOURCE may set.
		"--default-ulimit", "nofile=1024:2048", "--add-runtime", "brig="+runtime)
	daemon.Stdout, daemon.Stderr = log, log
	// Its own default for others, such as the daemon's containerd, is left alone.
	daemon.Env = append(os.Environ(), "DOCKER_RAMDISK=")
	if err := os.WriteFile(dir+"/none", []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	d := &docker{dir, "brig"}
	t.Cleanup(func() {
		if ids := words(d.run(nil, "ps", "-aq").Stdout); len(ids) > 0 {
			d.run(nil, append([]string{"rm", "-f"}, ids...)...)
		}
		daemon.Process.Signal(os.Interrupt)
		daemon.Wait()
		log.Close()
		removeCgroups("brig-test-docker")
	})
	if err := harness.Eventually("dockerd answers", func() bool { return d.run(nil, "version").Code == 0 }); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%v\n%s", err, text)
	}
	if res := d.run(harness.BusyboxArchive(t, "localhost/busybox:latest"), "load", "-q"); res.Code != 0 {
		t.Fatalf("docker load: %s", res.Stderr)
	}
	if res := d.run(nil, "tag", "localhost/busybox:latest", "busybox"); res.Code != 0 {
		t.Fatalf("docker tag: %s", res.Stderr)
	}
	t.Cleanup(func() {
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("the end of the daemon's log: %s", text[max(0, len(text)-4000):])
		}
	})
	return dir
}

func (d *docker) run(in []byte, args ...string) harness.Result {
	cmd := exec.Command("/usr/bin/docker", append([]string{"--host", "unix://" + d.dir + "/sock"}, expand(args, "--runtime", d.runtime)...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+d.dir)
	cmd.Stdin = bytes.NewReader(in)
	return harness.Finish(cmd)
}

func TestDocker(t *testing.T) {
	dir := dockerd(t, brigRuntime(t))
	compare(t, &docker{dir, "brig"}, &docker{dir, "runc"})
}
