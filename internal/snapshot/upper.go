package snapshot

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// PrepareUpper makes the two directories that a container's writable layer
// needs, dir/upper and dir/work, when they are missing, and returns their paths.
// A second call, for a container that starts again, costs one system call and
// keeps all that the container has written.
func PrepareUpper(dir string) (upper, work string, err error) {
	upper, work = dir+"/upper", dir+"/work"
	// work comes last, so that its being there says that upper is ready.
	if exists(work) {
		return upper, work, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("prepare the writable layer: %w", err)
	}
	if err := unix.Mkdir(upper, 0o755); err != nil && err != unix.EEXIST {
		return "", "", fmt.Errorf("prepare the writable layer: make %s: %w", upper, err)
	}
	// upper is the container's root directory: a strict umask of the caller
	// would lock out every user of the container but root.
	if err := unix.Chmod(upper, 0o755); err != nil {
		return "", "", fmt.Errorf("prepare the writable layer: chmod %s: %w", upper, err)
	}
	if err := unix.Mkdir(work, 0o700); err != nil && err != unix.EEXIST {
		return "", "", fmt.Errorf("prepare the writable layer: make %s: %w", work, err)
	}
	return upper, work, nil
}

// DirSize returns the bytes that the regular files below dir hold, hard links
// counted once, as `docker ps --size` counts a writable layer. Files that
// vanish meanwhile do not count.
func DirSize(dir string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := make(map[inode]bool)
	var size int64
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				st := info.Sys().(*syscall.Stat_t)
				id := inode{st.Dev, st.Ino}
				if st.Nlink > 1 && seen[id] {
					return nil
				}
				if st.Nlink > 1 {
					seen[id] = true
				}
				size += st.Size
			}
		}
		if os.IsNotExist(err) && path != dir {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", dir, err)
	}
	return size, nil
}
