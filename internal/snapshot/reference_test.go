package snapshot

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeTree fills dir with an inode of every kind that a layer can have.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, content string, mode uint32) string {
		t.Helper()
		path := filepath.Join(dir, name)
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, []byte(content), 0o600))
		must(unix.Chmod(path, mode))
		return path
	}
	put("etc/plain", "plain\n", 0o644)
	put("etc/empty", "", 0o640)
	put("etc/locked", "no permission at all", 0)
	put("srv/big", strings.Repeat("0123456789abcdef", 100_000), 0o644)
	put("srv/zeros", strings.Repeat("\x00", 300_000), 0o644)
	put("srv/blöd name\twith\nbytes\x01", "odd", 0o644)
	put("srv/"+strings.Repeat("l", 255), "long component", 0o644)
	put(strings.Repeat("deep/", 60)+strings.Repeat("d", 90), "long path", 0o644)

	// Ownership first: chown takes the bits away that chmod sets.
	suid := put("bin/suid", "#!/bin/sh", 0o755)
	must(os.Chown(suid, 1234, 4321))
	must(unix.Chmod(suid, 0o6755))
	high := put("bin/highids", "x", 0o755)
	must(os.Chown(high, 3_000_000_000, 2_999_999_999))

	capability := make([]byte, 20) // struct vfs_cap_data, revision 2
	binary.LittleEndian.PutUint32(capability, 0x02000001)
	binary.LittleEndian.PutUint32(capability[4:], 1<<13)
	ping := put("bin/ping", "raw", 0o755)
	must(unix.Setxattr(ping, "security.capability", capability, 0))
	must(unix.Setxattr(ping, "user.note", []byte("with = sign\nand \x00 bytes"), 0))

	must(os.Symlink("../etc/plain", dir+"/bin/relative"))
	must(os.Symlink("/etc/plain", dir+"/bin/absolute"))
	must(os.Symlink(strings.Repeat("x/", 700)+"y", dir+"/bin/longtarget"))
	must(os.Symlink("nowhere", dir+"/bin/dangling"))
	must(os.Lchown(dir+"/bin/dangling", 7, 8))
	must(os.Link(dir+"/etc/plain", dir+"/srv/hard1"))
	must(os.Link(dir+"/bin/suid", dir+"/srv/hardsuid"))
	must(os.Link(dir+"/bin/dangling", dir+"/srv/hardsymlink"))

	must(os.MkdirAll(dir+"/dev", 0o755))
	must(unix.Mknod(dir+"/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mknod(dir+"/dev/loop9", unix.S_IFBLK|0o660, int(unix.Mkdev(7, 900_000))))
	must(os.Chown(dir+"/dev/loop9", 0, 6))
	must(unix.Mkfifo(dir+"/dev/pipe", 0o620))

	for name, mode := range map[string]uint32{"tmp": 0o1777, "var/spool": 0o2775, "root": 0o700} {
		must(os.MkdirAll(dir+"/"+name, 0o755))
		must(os.Chown(dir+"/"+name, 33, 44))
		must(unix.Chmod(dir+"/"+name, mode))
	}
	put("var/spool/inside", "not of the directory's group", 0o644)
	must(unix.Setxattr(dir+"/var", "user.dir", []byte("yes"), 0))

	sparse := put("srv/sparse", "", 0o644)
	f, err := os.OpenFile(sparse, os.O_WRONLY, 0)
	must(err)
	for _, at := range []int64{1 << 20, 5 << 20, 5<<20 + 8192} {
		_, err = f.WriteAt([]byte("data in the middle"), at)
		must(err)
	}
	must(f.Truncate(32 << 20))
	must(f.Close())

	// Times last, deepest first; one is before 1970 and one after 2038.
	var paths []string
	must(filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	}))
	at := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	for i := len(paths) - 1; i >= 0; i-- {
		must(unix.Lutimes(paths[i], []unix.Timeval{{Sec: at.Unix()}, {Sec: at.Unix() + int64(i)}}))
	}
	ts := []unix.Timespec{{Sec: 1}, {Sec: at.Unix(), Nsec: 123456789}}
	must(unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/etc", ts, 0))
	must(unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/bin/ping", ts, 0))
	must(unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/tmp", []unix.Timespec{{}, {Sec: 5_000_000_000}}, 0))
	must(unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/root", []unix.Timespec{{}, {Sec: -5}}, 0))
}

// GNU tar is the reference: what it makes of its own archives, as root with
// everything preserved, is what Unpack must make.
func TestAsGNUTar(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		prep func(dir string) error // remove what the format cannot hold
	}{
		{"pax with xattrs and sparse files", []string{"--format=pax", "--xattrs", "--xattrs-include=*", "--sparse"}, nil},
		{"pax, sparse format 0.0", []string{"--format=pax", "--sparse", "--sparse-version=0.0"}, nil},
		{"pax, sparse format 0.1", []string{"--format=pax", "--sparse", "--sparse-version=0.1"}, nil},
		{"pax with access times", []string{"--format=posix"}, nil},
		{"gnu with sparse files", []string{"--format=gnu", "--sparse"}, nil},
		{"oldgnu", []string{"--format=oldgnu"}, nil},
		{"ustar", []string{"--format=ustar"}, forOldFormats},
		{"v7", []string{"--format=v7"}, forOldFormats},
		{"names with a leading slash", []string{"--format=gnu", "--transform=s,^\\.,/,S"}, nil},
		{"hard links as files", []string{"--format=gnu", "--hard-dereference"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			tree, want := dir+"/tree", dir+"/want"
			for _, d := range []string{tree, want} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			makeTree(t, tree)
			if test.prep != nil {
				if err := test.prep(tree); err != nil {
					t.Fatal(err)
				}
			}
			archive := gnuTar(t, append([]string{"-C", tree, "-P", "--numeric-owner", "-cf", "-", "."}, test.args...)...)
			saved := dir + "/a.tar"
			if err := os.WriteFile(saved, archive, 0o600); err != nil {
				t.Fatal(err)
			}
			gnuTar(t, "-C", want, "-xpf", saved, "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*")

			s := openStore(t, dir+"/layers")
			chain, err := unpackBytes(s, archive)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(test.name, "pax with xattrs") { // holds everything
				if d := diff(describe(t, tree), describe(t, lowerOf(t, s, chain))); d != "" {
					t.Errorf("not as the original:\n%s", d)
				}
			}
			if d := diff(describe(t, want), describe(t, lowerOf(t, s, chain))); d != "" {
				t.Errorf("not as GNU tar does it:\n%s", d)
			}
		})
	}
}

// forOldFormats removes what formats before GNU's and POSIX's cannot hold.
func forOldFormats(dir string) error {
	for _, name := range []string{"deep", "bin/highids", "bin/longtarget", "srv/" + strings.Repeat("l", 255), "root", "dev"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.Chtimes(dir+"/tmp", time.Unix(1, 0), time.Unix(1, 0))
}

func gnuTar(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("tar", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tar %q: %v: %s", args, err, stderr.String())
	}
	return out
}

// What the archive says is a hole takes no disk space, and neither do long runs
// of zeros that an archiver has written out.
func TestSparseStaysSparse(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/tree", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(dir + "/tree/file")
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < 8; at++ {
		if _, err := f.WriteAt([]byte("data"), at<<20); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, test := range []struct {
		name   string
		args   []string
		blocks int64 // most blocks of 512 bytes
	}{
		{"declared", []string{"--sparse", "--format=gnu"}, 8 * 8 * 2},
		{"declared, pax", []string{"--sparse", "--format=pax"}, 8 * 8 * 2},
		{"written out", []string{"--hole-detection=raw"}, 8 * 128 * 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			archive := gnuTar(t, append([]string{"-C", dir + "/tree", "-cf", "-", "."}, test.args...)...)
			s := openStore(t, memoryDir(t)+"/layers")
			chain, err := unpackBytes(s, archive)
			if err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Stat(lowerOf(t, s, chain)+"/file", &st); err != nil {
				t.Fatal(err)
			}
			if st.Size != 64<<20 {
				t.Errorf("size %d, want %d", st.Size, 64<<20)
			}
			if st.Blocks > test.blocks {
				t.Errorf("%d blocks, want at most %d", st.Blocks, test.blocks)
			}
		})
	}
}
