// Package held records who holds a volume: a file for each container in the
// directory "users" of the volume. A volume goes by the rmdir(2) of that
// directory, which fails while somebody holds it, and what holds it meanwhile
// finds no directory to do so. No lock is needed, nor JSON, so the monitor can
// give up the volumes of a container that ends.
//
// It does not know what a volume is, nor what a container is.
package held

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
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
func Remove(dir, trash string) error {
	if mountedBelow(dir) {
		return ErrMounted
	}
	switch err := syscall.Rmdir(dir + "/" + Users); err {
	case nil, syscall.ENOENT: // or a killed removal has done this part
	case syscall.ENOTEMPTY, syscall.EEXIST:
		return ErrHeld
	default:
		return &os.PathError{Op: "remove volume", Path: dir, Err: err}
	}
	gone := trash + "/volume-" + strconv.Itoa(os.Getpid()) + "-" + dir[lastSlash(dir)+1:]
	if err := os.Rename(dir, gone); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil // by another command at this moment
		}
		return err
	}
	return os.RemoveAll(gone)
}

func lastSlash(s string) int {
	i := len(s) - 1
	for i >= 0 && s[i] != '/' {
		i--
	}
	return i
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
