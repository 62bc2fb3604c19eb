// Package e2e runs real servers from Debian's packages under Brig, with the
// default policy and with the least that each needs, and every command of the
// document that Brig implements.
package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// packages are what the image has beside Debian's minimal system.
const packages = "nginx-light,redis-server,postgresql,python3-minimal,libpython3-stdlib,ntpsec,procps,curl,libcap2-bin"

const release = "bookworm"

// debian is an archive of the root file system of a Debian with the packages.
// It is made once for a machine: that takes a minute or two.
var debian = sync.OnceValues(func() (string, error) {
	dir := os.Getenv("BRIG_TEST_CACHE")
	if dir == "" {
		dir = "/var/cache/brig-test"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(release + packages))
	archive := filepath.Join(dir, "debian-"+hex.EncodeToString(sum[:6])+".tar")
	lock, err := os.OpenFile(archive+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	return archive, bootstrap(archive)
})

func bootstrap(archive string) error {
	root, err := os.MkdirTemp(harness.Scratch(), "brig-debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := run("debootstrap", "--variant=minbase", "--include="+packages, release, root, mirror()); err != nil {
		return err
	}
	tmp := archive + ".new"
	err = run("tar", "-C", root, "--numeric-owner", "--xattrs", "--one-file-system", "-cf", tmp,
		"--exclude=./var/cache/*", "--exclude=./var/lib/apt/lists/*", "--exclude=./usr/share/doc/*",
		"--exclude=./usr/share/locale/*", "--exclude=./usr/share/man/*", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*", ".")
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, archive)
}

// mirror is where this machine's own packages come from.
func mirror() string {
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, name := range append(files, "/etc/apt/sources.list") {
		b, _ := os.ReadFile(name)
		for _, word := range strings.Fields(string(b)) {
			if strings.HasPrefix(word, "http") && strings.HasSuffix(strings.TrimSuffix(word, "/"), "/debian") {
				return word
			}
		}
	}
	return "http://deb.debian.org/debian"
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out[max(0, len(out)-2000):])
	}
	return nil
}

// store is a store with the file system as an image.
func store(t *testing.T, name string, changes ...string) *harness.Root {
	t.Helper()
	archive, err := debian()
	if err != nil {
		t.Fatal(err)
	}
	r := harness.New(t)
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "-c", c)
	}
	r.Must(t, append(args, archive, name)...)
	return r
}
