package notify

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadAt reads the memory of the process that made the call, at one of its
// addresses. The process may change it while and after it is read.
func (r *Request) ReadAt(buf []byte, addr int64) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(r.PID, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if verr := r.Valid(); verr != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", r.PID, verr)
	}
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d at %#x: %w", r.PID, addr, err)
	}
	if n < len(buf) {
		return n, fmt.Errorf("read memory of process %d at %#x: %w", r.PID, addr+int64(n), unix.EFAULT)
	}
	return n, nil
}

// ReadString reads a string that ends with a zero byte, such as a path. One
// that is longer than max bytes is an error with ENAMETOOLONG.
func (r *Request) ReadString(addr uint64, max int) (string, error) {
	var text []byte
	for len(text) <= max {
		// Up to the end of the page: the next may not be there.
		page := make([]byte, min(4096-int(addr%4096), max+1-len(text)))
		if _, err := r.ReadAt(page, int64(addr)); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(page, 0); end >= 0 {
			return string(append(text, page[:end]...)), nil
		}
		text = append(text, page...)
		addr += uint64(len(page))
	}
	return "", fmt.Errorf("read a string of process %d: %w", r.PID, unix.ENAMETOOLONG)
}

// OpenParent opens the directory that a path of the caller is about, and
// returns the last part of the path. Dirfd is the caller's descriptor for
// relative paths, or AT_FDCWD. No link leads out of the caller's root, nor does
// "..": of a relative path it may not even leave the directory that it starts
// at. Links of /proc to open files, roots and the like are errors, but
// /proc/self is the agent's where it shares the caller's PID namespace.
func (r *Request) OpenParent(dirfd int, name string) (*os.File, string, error) {
	base, how := "root", unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	switch {
	case path.IsAbs(name):
	case dirfd == unix.AT_FDCWD:
		base, how.Resolve = "cwd", unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS
	default:
		base, how.Resolve = "fd/"+strconv.Itoa(dirfd), unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS
	}
	fail := func(err error) (*os.File, string, error) {
		return nil, "", fmt.Errorf("find %q of process %d: %w", name, r.PID, err)
	}
	dir, last := path.Split(name)
	if name == "" {
		return fail(unix.ENOENT)
	}
	if last == "" || last == "." || last == ".." {
		return fail(unix.EEXIST) // a directory, as the kernel says for names to be made
	}
	if dir == "" {
		dir = "."
	}
	at, err := unix.Open(fmt.Sprintf("/proc/%d/%s", r.PID, base), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(at)
	}
	if verr := r.Valid(); verr != nil {
		return fail(verr)
	}
	if err == unix.ENOENT && strings.HasPrefix(base, "fd/") {
		err = unix.EBADF
	}
	if err != nil {
		return fail(err)
	}
	fd, err := unix.Openat2(at, dir, &how)
	if err != nil {
		return fail(err)
	}
	return os.NewFile(uintptr(fd), dir), last, nil
}
