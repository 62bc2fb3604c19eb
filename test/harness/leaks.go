package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watch notes the name of every entry that a directory ever had.
type watch struct {
	f     *os.File
	mu    sync.Mutex
	names []string
}

func watchDir(dir string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &watch{f: os.NewFile(uintptr(fd), "inotify")}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		w.f.Close()
		return nil, &os.PathError{Op: "watch", Path: dir, Err: err}
	}
	go w.read()
	return w, nil
}

func (w *watch) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			size := int((*unix.InotifyEvent)(unsafe.Pointer(&b[0])).Len)
			name := b[unix.SizeofInotifyEvent:][:size]
			w.names = append(w.names, strings.TrimRight(string(name), "\x00"))
			b = b[unix.SizeofInotifyEvent+size:]
		}
		w.mu.Unlock()
	}
}

func (w *watch) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.names...)
}

// IDs are the IDs of all containers that this store ever had.
func (r *Root) IDs() []string { return r.watch.seen() }

// Close settles the store for good.
func (r *Root) Close() error {
	defer r.watch.f.Close()
	return errors.Join(r.Settle(), r.pruneNetworks())
}

// Settle removes all containers and says what is left of them, or of the
// commands that made them.
func (r *Root) Settle() error {
	res := r.Run("ps", "-aq", "--no-trunc")
	if res.Code != 0 {
		return fmt.Errorf("brig ps -aq: %s", res.Stderr)
	}
	if ids := strings.Fields(res.Stdout); len(ids) > 0 {
		if res := r.Run(append([]string{"rm", "-f"}, ids...)...); res.Code != 0 {
			return errors.Join(fmt.Errorf("brig rm -f: exit code %d: %s", res.Code, res.Stderr), r.Leaks())
		}
	}
	return r.Leaks()
}

// Leaks says what a store without containers still has on the machine. What is
// about to go, such as a process that has been killed, is given its time.
func (r *Root) Leaks() error {
	var found []string
	if err := Eventually("clean", func() bool { found = r.leaks(); return len(found) == 0 }); err != nil {
		return fmt.Errorf("left behind in %s:\n  %s", r.Dir, strings.Join(found, "\n  "))
	}
	return nil
}

func (r *Root) leaks() []string {
	found := append(append(r.Mounts(), r.Processes()...), r.networks()...)
	for _, id := range r.IDs() {
		found = append(found, Cgroups(id)...)
	}
	for _, dir := range []string{"containers", "names", "trash", "mnt"} {
		entries, err := os.ReadDir(filepath.Join(r.Dir, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			found = append(found, err.Error())
		}
		for _, e := range entries {
			found = append(found, "directory "+filepath.Join(r.Dir, dir, e.Name()))
		}
	}
	return found
}

// Mounts lists the mounts of this process's mount namespace that have to do
// with the store.
func (r *Root) Mounts() (found []string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	for line := range strings.Lines(string(b)) {
		// The file system that a test may have made for its store is not Brig's.
		if f := strings.Fields(line); strings.Contains(line, r.Dir) && f[4] != r.Dir && f[4] != filepath.Dir(r.Dir) {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	return found
}

// Cgroups lists the cgroups that a container has in any hierarchy.
func Cgroups(id string) (found []string) {
	const root = "/sys/fs/cgroup"
	for _, pattern := range []string{root + "/brig/" + id, root + "/*/brig/" + id} {
		dirs, _ := filepath.Glob(pattern)
		for _, d := range dirs {
			procs, _ := os.ReadFile(d + "/cgroup.procs")
			found = append(found, fmt.Sprintf("cgroup %s with processes %q", d, strings.Fields(string(procs))))
		}
	}
	return found
}

// Processes lists the processes that have a file of the store open, work in
// it, or are in the cgroup of one of its containers.
func (r *Root) Processes() (found []string) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return []string{err.Error()}
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if why := r.owns("/proc/" + d.Name()); why != "" {
			cmdline, _ := os.ReadFile("/proc/" + d.Name() + "/cmdline")
			found = append(found, fmt.Sprintf("process %d %q: %s", pid, strings.ReplaceAll(string(cmdline), "\x00", " "), why))
		}
	}
	return found
}

// owns says why a process belongs to the store, or nothing.
func (r *Root) owns(proc string) string {
	links := []string{proc + "/cwd", proc + "/root"}
	fds, _ := os.ReadDir(proc + "/fd")
	for _, fd := range fds {
		links = append(links, proc+"/fd/"+fd.Name())
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, r.Dir+"/") {
			return strings.TrimPrefix(l, proc+"/") + " is " + to
		}
	}
	if b, err := os.ReadFile(proc + "/cgroup"); err == nil {
		for _, id := range r.IDs() {
			if id != "" && strings.Contains(string(b), id) && !isZombie(proc) {
				return "is in the cgroup of " + id
			}
		}
	}
	return ""
}

// isZombie says whether a process has ended and only waits for its parent.
func isZombie(proc string) bool {
	b, err := os.ReadFile(proc + "/stat")
	return err == nil && strings.HasPrefix(string(b[strings.LastIndexByte(string(b), ')')+1:]), " Z")
}

// Alive says whether a process runs.
func Alive(pid int) bool {
	proc := "/proc/" + strconv.Itoa(pid)
	_, err := os.Stat(proc)
	return err == nil && !isZombie(proc)
}

// KillAll ends everything that belongs to the store, for a test that has gone
// wrong and shall not harm the next.
func (r *Root) KillAll() {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		list := r.Processes()
		if len(list) == 0 {
			return
		}
		for _, p := range list {
			if pid, err := strconv.Atoi(strings.Fields(p)[1]); err == nil {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}
