package harness

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The check for leaks is worth nothing if it sees none.
func TestLeaksAreSeen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	dir := t.TempDir()
	r := &Root{Dir: dir}
	var err error
	if err := os.Mkdir(filepath.Join(dir, "containers"), 0o700); err != nil {
		t.Fatal(err)
	}
	if r.watch, err = watchDir(filepath.Join(dir, "containers")); err != nil {
		t.Fatal(err)
	}
	defer r.watch.f.Close()
	expect := func(want string) {
		t.Helper()
		if err := Eventually(want, func() bool {
			all := strings.Join(r.leaks(), "\n")
			return want == all || want != "" && strings.Contains(all, want)
		}); err != nil {
			t.Error(err, r.leaks())
		}
	}
	expect("")

	// No real container's ID may hold this one, for its processes are killed below.
	const id = "no-hexadecimal-number"
	container := filepath.Join(dir, "containers", id)
	if err := os.Mkdir(container, 0o700); err != nil {
		t.Fatal(err)
	}
	expect("directory " + container)
	if err := os.Remove(container); err != nil {
		t.Fatal(err)
	}
	if ids := r.IDs(); len(ids) != 1 || ids[0] != id {
		t.Errorf("IDs %q, want the one that was there", ids)
	}
	expect("")

	f, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	expect("fd/3 is")
	expect("sleep 60")
	r.KillAll()
	cmd.Wait()
	expect("")

	below := filepath.Join(dir, "mnt")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "none", below).CombinedOutput(); err != nil {
		t.Fatalf("mount: %s", out)
	}
	expect("mount ")
	if out, err := exec.Command("umount", below).CombinedOutput(); err != nil {
		t.Fatalf("umount: %s", out)
	}
	expect("")
}

func TestTerminal(t *testing.T) {
	term, err := OpenTerminal(exec.Command("sh", "-c", "stty size; read a; echo got $a; exit 3"), 31, 97)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	if err := term.Expect("31 97"); err != nil {
		t.Fatal(err)
	}
	if err := term.Type("some\n"); err != nil {
		t.Fatal(err)
	}
	if err := term.Expect("got some"); err != nil {
		t.Fatal(err)
	}
	if code, err := term.Wait(); err != nil || code != 3 {
		t.Errorf("exit code %d, %v, want 3", code, err)
	}
}

func TestImage(t *testing.T) {
	image, err := Busybox("test/busybox")
	if err != nil {
		t.Fatal(err)
	}
	image.Add(Symlink("proc", "/etc"))
	var buf bytes.Buffer
	if err := image.Write(&buf); err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if len(names) != 3 || names[2] != "manifest.json" {
		t.Errorf("archive holds %q", names)
	}
	for _, e := range image.Entries {
		if e.Name == "proc/" {
			t.Error("the directory is still there")
		}
	}
}
