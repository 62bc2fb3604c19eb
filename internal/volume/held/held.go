// Package held records who holds a volume: a file for each container in the
// directory "users" of the volume. A volume goes by the rmdir(2) of that
// directory, which fails while somebody holds it, and what holds it meanwhile
// finds no directory to do so. It needs no JSON, so the monitor can give up the
// volumes of a container that ends.
//
// It does not know what a volume is, nor what a container is.
package held

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Users is the directory, within a volume's, with a file for each holder.
const Users = "users"

// ErrGone says that the volume is being removed.
var ErrGone = errors.New("the volume is being removed")

// Take makes id a holder of the volume in dir. To take it twice is nothing.
func Take(dir, id string) error {
	fd, err := syscall.Open(dir+"/"+Users+"/"+id, syscall.O_CREAT|syscall.O_WRONLY|syscall.O_CLOEXEC, 0o600)
	if err == syscall.ENOENT {
		return ErrGone
	}
	if err != nil {
		return &os.PathError{Op: "hold volume", Path: dir, Err: err}
	}
	return syscall.Close(fd)
}

// Release ends id's hold. One that does not hold it releases nothing.
func Release(dir, id string) error {
	err := syscall.Unlink(dir + "/" + Users + "/" + id)
	if err != nil && err != syscall.ENOENT {
		return &os.PathError{Op: "release volume", Path: dir, Err: err}
	}
	return nil
}

// ErrHeld says that a volume stays because somebody holds it.
var ErrHeld = errors.New("the volume is in use")

// ErrMounted says that a volume stays because something is mounted in it:
// deleting it would delete what is mounted.
var ErrMounted = errors.New("something is mounted in the volume's directory; unmount it first")

// Remove removes the volume in dir unless somebody holds it. Killed half way it
// leaves a volume without a directory of users, or trash.
func Remove(dir, trash string) error { return away(dir, trash, false) }

// Clean removes what a killed Remove left in dir, and no volume.
func Clean(dir, trash string) error { return away(dir, trash, true) }

// away moves a volume away that nobody holds. Of several who do that, and of
// those who make a new volume of the name meanwhile, each must know which
// directory it moves: a lock on the directory itself keeps it where it is.
func away(dir, trash string, onlyDead bool) error {
	f, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: dir, Err: err}
	}
	was, err := f.Stat()
	if err != nil {
		return err
	}
	if is, err := os.Lstat(dir); err != nil || !os.SameFile(was, is) {
		return nil // another has moved it
	}
	if mountedBelow(dir) {
		return ErrMounted
	}
	if onlyDead {
		if _, err := os.Lstat(dir + "/" + Users); err == nil {
			return nil
		}
	}
	switch err := syscall.Rmdir(dir + "/" + Users); err {
	case nil, syscall.ENOENT: // or a killed removal has done this part
	case syscall.ENOTEMPTY, syscall.EEXIST:
		return ErrHeld
	default:
		return &os.PathError{Op: "remove volume", Path: dir, Err: err}
	}
	gone := trash + "/volume-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// mountedBelow says whether this mount namespace has a mount in dir,
// proc_pid_mountinfo(5).
func mountedBelow(dir string) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true // better keep it
	}
	return bytes.Contains(b, []byte(" "+escape(dir)+"/"))
}

// escape writes a path as mountinfo does.
func escape(s string) string {
	var out []byte
	for _, c := range []byte(s) {
		switch c {
		case ' ', '\t', '\n', '\\', '#':
			out = append(out, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		default:
			out = append(out, c)
		}
	}
	return string(out)
}
