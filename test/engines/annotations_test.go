package engines

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/test/harness"
)

// A pod's annotations give its containers, and not its sandbox, a recorder: the
// policies of two replicas are joined, exported and enforced by the kubelet's own
// means, and brig why speaks Kubernetes.
func TestKubernetesAnnotations(t *testing.T) {
	dir := scratch(t)
	policies, root := filepath.Join(dir, "policies"), filepath.Join(dir, "brig")
	wrapper := filepath.Join(dir, "runtime")
	script := "#!/bin/sh\nexec " + brigRuntime(t) + " --learn-dir " + policies + " --explain-dir " + root + "/explain \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	k := startKube(t, wrapper)
	brig, err := harness.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	asked := object{"dev.brig.learn": "shop/", "dev.brig.explain": "true", "dev.brig.image": "forged"}
	standard := object{"security_context": object{"seccomp": object{"profile_type": 0}}}
	one, stop := k.annotated(t, "one", asked, standard, "sh", "-c", "chown 1 /tmp; date -s @$(date +%s); exec sleep 600")
	k.mustCrictl(t, "exec", "-s", one, "sync")
	const want = "clock_settime: denied EPERM in date (seccomp profile of the container): add SYS_TIME to securityContext.capabilities.add of the container; "
	if err := harness.Eventually("it is denied", func() bool { return strings.Contains(brig.Run("why", "containerd://"+one).Stdout, want) }); err != nil {
		t.Errorf("%v: %+v", err, brig.Run("why", one))
	}
	stop()
	if out := brig.Must(t, "why", one); !strings.HasPrefix(out, want) {
		t.Errorf("why after its removal: %s", out)
	}
	_, stop = k.annotated(t, "two", asked, standard, "chroot", "/", "true")
	stop()

	files, _ := filepath.Glob(filepath.Join(policies, "*", "*"))
	if len(files) != 2 {
		t.Fatalf("policies: %v", files)
	}
	merged := filepath.Join(dir, "merged")
	brig.Must(t, "collect", "--dir", policies, "-o", merged, "--to", "kubernetes,spo")
	p, err := policy.Load(filepath.Join(merged, "localhost-busybox-latest.policy.json"))
	if err != nil {
		t.Fatal(err)
	}
	if granted, err := p.Granted(); err != nil || granted.String() != "CAP_CHOWN,CAP_SYS_CHROOT" {
		t.Errorf("granted %v, %v", granted, err)
	}
	if _, err := os.Stat(filepath.Join(merged, "spo", "localhost-busybox-latest.yaml")); err != nil {
		t.Error(err)
	}

	learned := object{"security_context": object{
		"capabilities": object{"drop_capabilities": []string{"ALL"}, "add_capabilities": []string{"CHOWN", "SYS_CHROOT"}},
		"seccomp":      object{"profile_type": 2, "localhost_ref": filepath.Join(merged, "kubernetes", "localhost-busybox-latest.json")},
	}}
	id, stop := k.annotated(t, "held", nil, learned, "sh", "-c", "chown 1 /tmp; sync; exec sleep 600")
	k.mustCrictl(t, "exec", "-s", id, "chroot", "/", "true")
	if res := k.crictl(nil, "exec", "-s", id, "rmdir", "/tmp"); res.Code == 0 || !strings.Contains(res.Stderr, "not permitted") {
		t.Errorf("rmdir under the learned profile: %+v", res)
	}
	stop()
	if again, _ := filepath.Glob(filepath.Join(policies, "*", "*")); len(again) != 2 {
		t.Errorf("policies of who did not ask: %v", again)
	}
}

// annotated starts a container in a pod with annotations. The function that it
// returns removes both.
func (k *kube) annotated(t *testing.T, name string, annotations, linux object, command ...string) (id string, remove func()) {
	t.Helper()
	logs := t.TempDir()
	pod := jsonFile(t, object{"metadata": object{"name": name, "namespace": "test", "uid": name, "attempt": 1}, "log_directory": logs,
		"annotations": annotations, "linux": object{"cgroup_parent": "/k8s.io/" + name}})
	container := jsonFile(t, object{"metadata": object{"name": name}, "image": object{"image": "localhost/busybox:latest"}, "command": command, "log_path": "log", "linux": linux})
	p := k.mustCrictl(t, "runp", pod)
	t.Cleanup(func() { k.crictl(nil, "rmp", "-f", p) })
	id = k.mustCrictl(t, "create", p, container, pod)
	k.mustCrictl(t, "start", id)
	return id, func() {
		t.Helper()
		k.crictl(nil, "stop", "-t", "0", id)
		k.mustCrictl(t, "rm", "-f", id)
		k.mustCrictl(t, "rmp", "-f", p)
	}
}
