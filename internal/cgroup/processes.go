package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Procs lists the processes in a cgroup directory and the ones below it.
func Procs(dir string) ([]int, error) {
	pids, err := cgroups.GetAllPids(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	return pids, err
}

// Pids lists the processes in any of the group's directories or below, each
// once, in order.
func (g *Group) Pids() ([]int, error) {
	var all []int
	for _, dir := range g.Dirs {
		pids, err := Procs(dir)
		if err != nil {
			return nil, fmt.Errorf("list the processes of cgroup %s: %w", dir, err)
		}
		all = append(all, pids...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// freezer is the directory whose processes can be frozen: of v1's freezer, or
// of v2 alone. (A hybrid host's v2 cgroup freezes too; engines know only the
// first.)
func (g *Group) freezer() string {
	if g.Layout.Unified {
		return g.UnifiedDir()
	}
	return g.mgr.Path("freezer")
}

// Freeze stops all processes, or lets them go on. It returns when they stand
// still.
func (g *Group) Freeze(frozen bool) error {
	state, doing := cgroups.Thawed, "thaw"
	if frozen {
		state, doing = cgroups.Frozen, "freeze"
	}
	if g.freezer() == "" {
		return fmt.Errorf("%s cgroup %s: this host has no freezer for it", doing, g.path)
	}
	var err error
	if frozen && !g.Layout.Unified {
		err = freezeV1(g.freezer())
	} else {
		err = g.mgr.Freeze(state)
	}
	if err != nil {
		return fmt.Errorf("%s cgroup %s: %w", doing, g.path, err)
	}
	return nil
}

// freezePatience is how long processes may take to stand still: each has to run to
// do so, on processors that others want too.
const freezePatience = 10 * time.Second

// freezeV1 freezes a cgroup of v1, which has to be told again and again while its
// processes make new ones. The library does so as fast as it can, and gives up after a
// fraction of a second; on a busy machine that is too early.
func freezeV1(dir string) error {
	const file = "freezer.state"
	end := time.Now().Add(freezePatience)
	for wait := time.Duration(0); ; wait = min(2*wait+100*time.Microsecond, 20*time.Millisecond) {
		time.Sleep(wait)
		if err := cgroups.WriteFile(dir, file, string(cgroups.Frozen)); err != nil {
			return err
		}
		state, err := cgroups.ReadFile(dir, file)
		if err == nil && strings.TrimSpace(state) == string(cgroups.Frozen) {
			return nil
		}
		if err == nil && time.Now().After(end) {
			err = fmt.Errorf("its processes do not stand still within %s", freezePatience)
		}
		if err != nil {
			cgroups.WriteFile(dir, file, string(cgroups.Thawed))
			return err
		}
	}
}

// Frozen says whether the cgroup itself, not one above it, is told to be frozen.
// It does not wait for a freeze that is under way.
func (g *Group) Frozen() (bool, error) {
	dir, file := g.freezer(), "freezer.self_freezing"
	if g.Layout.Unified {
		file = "cgroup.freeze"
	}
	if dir == "" {
		return false, nil
	}
	state, err := cgroups.ReadFile(dir, file)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return strings.TrimSpace(state) == "1", err
}

// Paused is Frozen of the group whose Dirs were recorded, at the cost of one
// read: a list of containers asks it of each.
func Paused(dirs []string) bool {
	for _, dir := range dirs {
		file := "/freezer.self_freezing"
		if !strings.HasPrefix(dir, Root+"/freezer/") {
			if file = "/cgroup.freeze"; len(dirs) > 1 {
				continue
			}
		}
		fd, err := unix.Open(dir+file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		var b [1]byte
		n, err := unix.Read(fd, b[:])
		return err == nil && n == 1 && b[0] == '1'
	}
	return false
}

// Kill ends all processes with SIGKILL, also frozen ones, and those that they
// fork meanwhile. It returns when they are told, not when they are gone.
func (g *Group) Kill() error {
	unified := g.UnifiedDir()
	// cgroup.kill (Linux 5.14) reaches all at once: no fork escapes it.
	if unified == "" || cgroups.WriteFile(unified, "cgroup.kill", "1") != nil {
		unified = ""
	}
	defer g.thawAll()
	if g.Layout.Unified && unified != "" {
		return nil
	}
	stray, err := g.outside(unified)
	if err != nil || len(stray) == 0 {
		return err
	}
	// Frozen processes do not fork, and one with SIGKILL pending never will.
	if g.freezer() != "" {
		g.mgr.Freeze(cgroups.Frozen)
	}
	pids, err := g.Pids()
	if err == nil {
		g.send(pids, unix.SIGKILL)
	}
	return err
}

// outside lists the processes that are not below the directory dir.
func (g *Group) outside(dir string) ([]int, error) {
	pids, err := g.Pids()
	if err != nil || dir == "" {
		return pids, err
	}
	inside, err := Procs(dir)
	return slices.DeleteFunc(pids, func(pid int) bool { return slices.Contains(inside, pid) }), err
}

// thawAll thaws the group, and what a process in it has frozen below: on v1 a
// frozen process does not even die.
func (g *Group) thawAll() {
	dir := g.freezer()
	if dir == "" || g.Layout.Unified { // of v2 they do die
		return
	}
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			cgroups.WriteFile(path, "freezer.state", string(cgroups.Thawed))
		}
		return nil
	})
}

// Signal sends a signal to all processes. They are frozen meanwhile, so that
// none forks away, and afterwards as frozen as before.
func (g *Group) Signal(sig syscall.Signal) error {
	if sig == unix.SIGKILL {
		return g.Kill()
	}
	was, err := g.Frozen()
	if err != nil {
		return err
	}
	if !was && g.freezer() != "" {
		if g.Freeze(true) == nil {
			defer g.Freeze(false)
		}
	}
	pids, err := g.Pids()
	if err == nil {
		g.send(pids, sig)
	}
	return err
}

// send signals processes of the group. The ID of one that ended meanwhile may
// be another's by now, so each is held by a descriptor and looked for again.
func (g *Group) send(pids []int, sig syscall.Signal) {
	type held struct{ pid, fd int }
	var all []held
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			all = append(all, held{pid, fd})
		}
	}
	still, _ := g.Pids()
	for _, h := range all {
		if _, found := slices.BinarySearch(still, h.pid); found {
			unix.PidfdSendSignal(h.fd, sig, nil, 0)
		}
		unix.Close(h.fd)
	}
}

// Wait waits until no process is left, at most for the given time.
func (g *Group) Wait(limit time.Duration) error {
	end := time.Now().Add(limit)
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("cgroup %s: processes %v do not end", g.path, pids)
		}
		time.Sleep(pause)
	}
}
