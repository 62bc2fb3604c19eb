package record

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Running is something that runs, of whatever engine, and how to record it.
type Running struct {
	What    string // in words
	Targets []Target

	events string // a cgroup.events file that says whether somebody is there
	pidfd  int    // of the process whose end is the end, if events is ""
}

// Close gives back what Running holds.
func (r *Running) Close() {
	if r.pidfd > 0 {
		unix.Close(r.pidfd)
		r.pidfd = 0
	}
}

// Alive reports whether there is somebody left to record.
func (r *Running) Alive() bool {
	if r.events != "" {
		b, err := os.ReadFile(r.events)
		return err == nil && bytes.Contains(b, []byte("populated 1")) // cgroup-v2.rst
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.pidfd), Events: unix.POLLIN}}, 0)
	return n == 0 || err == unix.EINTR
}

// FindProcess finds a process, by the host's number, with its descendants.
func FindProcess(pid int) (*Running, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, fmt.Errorf("record process %d: there is no such process", pid)
	case err != nil: // such as a thread
		return nil, fmt.Errorf("record process %d: %w; is it the number of a process?", pid, err)
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return &Running{
		What:    fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(comm))),
		Targets: []Target{{PID: pid}}, pidfd: fd,
	}, nil
}

// FindCgroup finds those in a cgroup, by its directory or its path below the
// root of the v2 hierarchy. A directory of v1 stands for the containers, as told
// by their mount namespaces, of the processes that are in it.
func FindCgroup(dir string) (*Running, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if root, e := unifiedRoot(); e == nil {
			if below := filepath.Join(root, dir); exists(below) {
				dir = below
			}
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("record the cgroup %s: %w", dir, err)
	}
	if st.Type == unix.CGROUP_SUPER_MAGIC {
		pids, err := pidsBelow(dir)
		if err != nil {
			return nil, fmt.Errorf("record the cgroup %s: %w", dir, err)
		}
		return byNamespaces("the cgroup "+dir, pids)
	}
	target, err := CgroupTarget(dir)
	if err != nil {
		return nil, err
	}
	return &Running{What: "the cgroup " + dir, Targets: []Target{target}, events: filepath.Join(dir, "cgroup.events")}, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// pidsBelow lists the processes in a cgroup and those below it.
func pidsBelow(dir string) (pids []int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, word := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
		return err
	})
	return pids, err
}

// unifiedRoot is where the v2 hierarchy is mounted.
func unifiedRoot() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroup hierarchy of version 2 is mounted")
}

// byNamespaces finds containers by processes of theirs: each container has a
// mount namespace of its own, which no other process has.
func byNamespaces(what string, pids []int) (*Running, error) {
	own, err := mountNS("self")
	if err != nil {
		return nil, err
	}
	host, _ := mountNS("1")
	r := &Running{What: what}
	slices.Sort(pids)
	for _, pid := range pids {
		ns, err := mountNS(strconv.Itoa(pid))
		target := Target{MountNS: ns}
		if err != nil || ns == own || ns == host || slices.Contains(r.Targets, target) {
			continue
		}
		if r.pidfd == 0 {
			if r.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
				r.pidfd = 0
				continue // it has just ended
			}
		}
		r.Targets = append(r.Targets, target)
	}
	if len(r.Targets) == 0 {
		return nil, fmt.Errorf("record %s: no process of it has a mount namespace of its own; name one with --pid", what)
	}
	return r, nil
}

// mountNS is the number of a process's mount namespace.
func mountNS(pid string) (uint32, error) {
	var st unix.Stat_t
	path := "/proc/" + pid + "/ns/mnt"
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint32(st.Ino), nil
}

// FindContainer finds a running container of any engine by its ID, or the first
// part of it, as the names of its cgroups have it. Where none of them is of v2,
// its mount namespace tells it from others.
func FindContainer(id string) (*Running, error) {
	if _, after, ok := strings.Cut(id, "://"); ok { // containerd://ID, as Kubernetes has it
		id = after
	}
	if len(id) < 4 || strings.ContainsFunc(id, notHex) {
		return nil, fmt.Errorf("no such container: %s; one of another engine goes by its ID, of which 4 digits are enough", id)
	}
	all, err := cgroupsNamed(id)
	if err != nil {
		return nil, fmt.Errorf("look for container %s: %w", id, err)
	}
	switch len(all) {
	case 0:
		return nil, fmt.Errorf("no container %s is running: no process is in a cgroup of that ID", id)
	case 1:
		return all[0].running()
	}
	var names []string
	for _, c := range all {
		names = append(names, c.id)
	}
	return nil, fmt.Errorf("the ID %s is ambiguous: %s", id, strings.Join(names, ", "))
}

// found is a container by its cgroups.
type found struct {
	id      string
	unified string // path of its cgroup of v2
	pids    []int
}

func (f *found) running() (*Running, error) {
	what := "container " + f.id[:min(12, len(f.id))]
	if root, err := unifiedRoot(); err == nil && f.unified != "" {
		r, err := FindCgroup(filepath.Join(root, f.unified))
		if err == nil {
			r.What = fmt.Sprintf("%s (cgroup %s)", what, f.unified)
		}
		return r, err
	}
	return byNamespaces(what, f.pids)
}

// cgroupsNamed finds all containers whose ID begins so, sorted.
func cgroupsNamed(id string) ([]*found, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return nil, err
	}
	var all []*found
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		for line := range strings.Lines(string(b)) {
			full, path, unified := cgroupOf(strings.TrimSuffix(line, "\n"), id)
			if full == "" {
				continue
			}
			i := slices.IndexFunc(all, func(f *found) bool { return f.id == full })
			if i < 0 {
				i, all = len(all), append(all, &found{id: full})
			}
			if unified {
				all[i].unified = path
			}
			all[i].pids = append(all[i].pids, pid)
		}
	}
	slices.SortFunc(all, func(a, b *found) int { return strings.Compare(a.id, b.id) })
	return all, nil
}

// cgroupOf reads a line of /proc/PID/cgroup, such as
// "0::/machine.slice/libpod-ID.scope/container", and returns the container's
// full ID and the path as far as it. The ID is "" if it does not begin with id.
func cgroupOf(line, id string) (full, path string, unified bool) {
	hierarchy, rest, _ := strings.Cut(line, ":")
	_, whole, _ := strings.Cut(rest, ":")
	end := 0
	for part := range strings.SplitSeq(whole, "/") {
		end += len(part) + 1
		if full = idIn(part); full != "" && strings.HasPrefix(full, id) {
			return full, whole[:end-1], hierarchy == "0"
		}
	}
	return "", "", false
}

// idIn returns the 64 hexadecimal digits by which a cgroup's name tells whose it
// is: ID, docker-ID.scope, cri-containerd-ID.scope. Those that watch a container
// (conmon) do not belong to it.
func idIn(name string) string {
	if strings.Contains(name, "conmon") {
		return ""
	}
	for run := range strings.FieldsFuncSeq(name, notHex) {
		if len(run) == 64 {
			return run
		}
	}
	return ""
}

func notHex(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }
