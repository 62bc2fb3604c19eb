// Package resctrl gives a container its share of caches and memory bandwidth:
// a group of the kernel's resctrl file system (Intel RDT, AMD QoS; Linux
// Documentation/filesystems/resctrl.rst), as runtime-spec linux.intelRdt asks.
//
// It owns which directories a container has there and what is written to them.
// It does not know containers, nor who keeps the record of a Group.
package resctrl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Group is what a container has in resctrl. It is kept on disk from before
// anything is made, so that all of it can be removed.
type Group struct {
	Root    string `json:"root"`              // where resctrl is mounted
	Dir     string `json:"dir"`               // the class of service
	Own     bool   `json:"own,omitempty"`     // Dir is the container's alone
	Monitor string `json:"monitor,omitempty"` // the container's monitoring group
}

// Mountpoint is where resctrl is mounted. It is an error if the kernel or the
// hardware has none, or nobody has mounted it.
func Mountpoint() (string, error) {
	const usual = "/sys/fs/resctrl" // made by a kernel that has it
	var st unix.Statfs_t
	if err := unix.Statfs(usual, &st); err != nil {
		return "", errors.New("Intel RDT is not enabled: this kernel, or this machine, has no resctrl")
	}
	if st.Type == unix.RDTGROUP_SUPER_MAGIC {
		return usual, nil
	}
	found, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("resctrl"))
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fmt.Errorf("Intel RDT is not enabled: resctrl is not mounted; run mount -t resctrl resctrl %s", usual)
	}
	return found[0].Mountpoint, nil
}

// Plan finds out which group the container with that ID gets below root, and
// checks that the machine can do what is asked. It makes nothing.
func Plan(root, id string, r *specs.LinuxIntelRdt) (*Group, error) {
	for _, f := range []struct{ field, value, dir, name string }{
		{"l3CacheSchema", r.L3CacheSchema, "L3", "CAT"}, {"memBwSchema", r.MemBwSchema, "MB", "MBA"}} {
		if f.value == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "info", f.dir)); err != nil {
			return nil, fmt.Errorf("linux.intelRdt.%s: Intel RDT/%s is not enabled on this machine", f.field, f.name)
		}
	}
	clos := r.ClosID
	if clos == "" {
		clos = id
	}
	g := &Group{Root: root, Dir: filepath.Join(root, clos)}
	_, err := os.Stat(g.Dir)
	exists := err == nil
	g.Own = r.ClosID == "" && !exists
	switch {
	case r.ClosID == "" || exists && len(lines(r)) == 0:
	case exists:
		if err := g.compare(r); err != nil {
			return nil, err
		}
	case len(lines(r)) == 0:
		return nil, fmt.Errorf("linux.intelRdt.closID: there is no group %s; make it first, or give schemata for it", g.Dir)
	}
	if r.EnableMonitoring {
		g.Monitor = filepath.Join(g.Dir, "mon_groups", id)
	}
	return g, nil
}

// lines are the schemata in the order in which they are to be written.
func lines(r *specs.LinuxIntelRdt) (all []string) {
	for _, s := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if s != "" {
			all = append(all, s)
		}
	}
	return all
}

// compare makes sure that a class of service that is there already is what the
// container asks for.
func (g *Group) compare(r *specs.LinuxIntelRdt) error {
	b, err := os.ReadFile(filepath.Join(g.Dir, "schemata"))
	if err != nil {
		return fmt.Errorf("linux.intelRdt: %w", err)
	}
	have := schemata(strings.Split(string(b), "\n"))
	for key, want := range schemata(lines(r)) {
		if have[key] != want {
			return fmt.Errorf("linux.intelRdt: the group %s exists with another share: %s is %q, and not %q", g.Dir, key, have[key], want)
		}
	}
	return nil
}

// schemata reads lines such as "L3:0=7f0;1=1f" into values by resource and
// domain, "L3:0". The kernel writes numbers its own way: leading zeros and case
// mean nothing.
func schemata(list []string) map[string]string {
	all := map[string]string{}
	for _, line := range list {
		resource, domains, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		for d := range strings.SplitSeq(domains, ";") {
			name, value, _ := strings.Cut(d, "=")
			value = strings.ToLower(strings.TrimLeft(strings.TrimSpace(value), "0"))
			if value == "" {
				value = "0"
			}
			all[strings.TrimSpace(resource)+":"+strings.TrimSpace(name)] = value
		}
	}
	return all
}

// Apply makes the group, gives it its shares, and puts the process in it.
func (g *Group) Apply(r *specs.LinuxIntelRdt, pid int) error {
	if err := os.Mkdir(g.Dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return g.failed("make the group", err)
	}
	if err := g.write(lines(r)); err != nil {
		return err
	}
	dirs := []string{g.Dir}
	if g.Monitor != "" {
		if err := os.Mkdir(g.Monitor, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return g.failed("make the monitoring group", err)
		}
		dirs = append(dirs, g.Monitor)
	}
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "tasks"), strconv.AppendInt(nil, int64(pid), 10), 0o600); err != nil {
			return g.failed("add the container's process", err)
		}
	}
	return nil
}

// Update changes the shares of a container's own group.
func (g *Group) Update(r *specs.LinuxIntelRdt) error {
	if !g.Own {
		return fmt.Errorf("linux.intelRdt: the group %s is not the container's own", g.Dir)
	}
	return g.write(lines(r))
}

func (g *Group) write(list []string) error {
	if len(list) == 0 {
		return nil
	}
	text := strings.Join(list, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(g.Dir, "schemata"), []byte(text), 0o600); err != nil {
		return g.failed(fmt.Sprintf("write %q", text), err)
	}
	return nil
}

// failed adds what the kernel says about the last operation.
func (g *Group) failed(what string, err error) error {
	if b, rerr := os.ReadFile(filepath.Join(g.Root, "info", "last_cmd_status")); rerr == nil {
		return fmt.Errorf("linux.intelRdt: %s: %w: %s", what, err, strings.TrimSpace(string(b)))
	}
	return fmt.Errorf("linux.intelRdt: %s: %w", what, err)
}

// Remove removes what is the container's alone. To remove it again is no error.
func (g *Group) Remove() error {
	dir := g.Monitor
	if g.Own {
		dir = g.Dir // with its monitoring groups
	}
	if dir == "" {
		return nil
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return g.failed("remove "+dir, err)
	}
	return nil
}
