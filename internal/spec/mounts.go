package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const defaultShmSize = 64 << 20

// mounts lists the system's mounts, then the user's and the files of /etc by
// depth, then the init program.
func (b *builder) mounts() error {
	user, err := b.userMounts()
	if err != nil {
		return err
	}
	all := b.systemMounts(user)
	all = append(all, user...)
	if b.hasInit() {
		if b.InitPath == "" {
			return fmt.Errorf("--init: no init program at hand")
		}
		all = append(all, specs.Mount{Destination: InitTarget, Type: "bind", Source: b.InitPath, Options: []string{"bind", "ro"}})
	}
	b.spec.Mounts = all
	return nil
}

// systemMounts are Docker's, without those that a user's mount replaces.
func (b *builder) systemMounts(user []specs.Mount) []specs.Mount {
	all := make([]specs.Mount, 0, 8+len(user))
	all = append(all,
		specs.Mount{Destination: "/proc", Type: "proc", Source: "proc",
			Options: []string{"nosuid", "noexec", "nodev"}},
		specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: b.devptsOptions([]string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"})},
		specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs",
			Options: b.unlessPrivileged("ro")},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: b.unlessPrivileged("ro")},
		// The kernel shows the queues of the IPC namespace that mounts
		// (mq_overview(7)): the container's, the joined or the host's.
		specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue",
			Options: []string{"nosuid", "noexec", "nodev"}},
	)
	if b.o.IPC != "none" {
		all = append(all, b.shm())
	}
	dests := make([]string, len(user))
	for i := range user {
		dests[i] = user[i].Destination
	}
	devReplaced := slices.Contains(dests, "/dev")
	return slices.DeleteFunc(all, func(m specs.Mount) bool {
		return slices.Contains(dests, m.Destination) || devReplaced && strings.HasPrefix(m.Destination, "/dev/")
	})
}

// unlessPrivileged gives the options of a mount that shows the machine.
func (b *builder) unlessPrivileged(access string) []string {
	options := []string{"nosuid", "noexec", "nodev"}
	if !b.o.Privileged {
		options = append(options, access)
	}
	return options
}

// shm: /dev/shm belongs to the IPC namespace in spirit, so it is the host's
// with --ipc host, and the other container's with --ipc container:ID.
func (b *builder) shm() specs.Mount {
	m := specs.Mount{Destination: "/dev/shm", Type: "bind", Options: []string{"rbind", "rprivate"}}
	switch {
	case b.o.IPC.Host():
		m.Source = "/dev/shm"
	case b.ShmPath != "" && (b.o.IPC == "shareable" || b.o.IPC.Container() != ""):
		m.Source = b.ShmPath
	default:
		size := b.o.ShmSize
		if size == 0 {
			size = defaultShmSize
		}
		m.Type, m.Source = "tmpfs", "shm"
		m.Options = []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)}
	}
	return m
}

// userMounts gives the user's mounts and the files of /etc, parents first.
func (b *builder) userMounts() ([]specs.Mount, error) {
	all := make([]specs.Mount, 0, len(b.o.Mounts)+3)
	for i := range b.o.Mounts {
		m := &b.o.Mounts[i]
		if m.Type == MountTmpfs {
			all = append(all, tmpfsMount(m))
			continue
		}
		bind, err := b.bindMount(m)
		if err != nil {
			return nil, err
		}
		all = append(all, bind)
	}
	for _, f := range [...]struct{ source, dest string }{
		{b.ResolvConfPath, "/etc/resolv.conf"},
		{b.HostnamePath, "/etc/hostname"},
		{b.HostsPath, "/etc/hosts"},
	} {
		taken := slices.ContainsFunc(all, func(m specs.Mount) bool { return m.Destination == f.dest })
		if f.source == "" || taken {
			continue
		}
		options := []string{"rbind", "rprivate"}
		if b.o.ReadOnly {
			options = []string{"rbind", "ro", "rprivate"}
		}
		all = append(all, specs.Mount{Destination: f.dest, Type: "bind", Source: f.source, Options: options})
	}
	slices.SortStableFunc(all, func(x, y specs.Mount) int {
		return strings.Count(x.Destination, "/") - strings.Count(y.Destination, "/")
	})
	return all, nil
}

// bindMount: a read-only bind is so with all that is mounted below its source
// (rro, mount_setattr(2) AT_RECURSIVE), unless the user says otherwise.
func (b *builder) bindMount(m *Mount) (specs.Mount, error) {
	bind := "rbind"
	if m.NonRecursive {
		bind = "bind"
	}
	options := append(make([]string, 0, 3), bind)
	if m.ReadOnly {
		ro := "rro"
		if m.NonRecursive || m.ReadOnlyNonRecursive {
			ro = "ro"
		}
		options = append(options, ro)
	}
	if m.Type == MountVolume {
		if b.o.UserNS.Own() { // its files keep the IDs that the image gave them
			options = append(options, "idmap")
		}
		// Docker gives the mount of a volume no propagation.
		return specs.Mount{Destination: m.Target, Type: "bind", Source: b.VolumeSources[m.Target], Options: append(options, "rprivate")}, nil
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = "rprivate"
	}
	if err := b.rootPropagation(m.Source, propagation); err != nil {
		return specs.Mount{}, err
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: append(options, propagation)}, nil
}

// rootPropagation opens the container's root as far as a shared or slave bind
// needs it, and refuses one whose source does not propagate.
func (b *builder) rootPropagation(source, propagation string) error {
	wantShared := strings.HasSuffix(propagation, "shared")
	if !wantShared && !strings.HasSuffix(propagation, "slave") {
		return nil
	}
	if b.host.SharedMount != nil {
		shared, slave, err := b.host.SharedMount(source)
		switch {
		case err != nil:
			return fmt.Errorf("find the mount of %s: %w", source, err)
		case wantShared && !shared:
			return fmt.Errorf("%s is not on a shared mount, so %s cannot work; run mount --make-shared on its mount point first", source, propagation)
		case !shared && !slave:
			return fmt.Errorf("%s is not on a shared or slave mount, so %s cannot work; run mount --make-shared on its mount point first", source, propagation)
		}
	}
	root := &b.spec.Linux.RootfsPropagation
	switch {
	case wantShared:
		*root = "shared"
	case *root == "":
		*root = "rslave"
	}
	return nil
}

// sharedMount finds the mount that holds a path and how it propagates
// (proc_pid_mountinfo(5), optional fields).
func sharedMount(path string) (shared, slave bool, err error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return false, false, err
	}
	longest := -1
	for _, m := range mounts {
		// Of two at one place the later one is on top.
		if len(m.Mountpoint) >= longest {
			longest = len(m.Mountpoint)
			shared = strings.Contains(m.Optional, "shared:")
			slave = strings.Contains(m.Optional, "master:")
		}
	}
	return shared, slave, nil
}

// tmpfsMount: Docker's safe options, each replaced by the user's opposite.
func tmpfsMount(m *Mount) specs.Mount {
	options := []string{"noexec", "nosuid", "nodev", "rprivate"}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	for _, opt := range m.Options {
		kind := optionKind(opt)
		options = slices.DeleteFunc(options, func(o string) bool { return optionKind(o) == kind })
		if opt != "defaults" {
			options = append(options, opt)
		}
	}
	return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options}
}

// optionKind is equal for mount options of which only one can hold: noexec and
// exec, size=1m and size=2m.
func optionKind(opt string) string {
	if key, _, ok := strings.Cut(opt, "="); ok {
		return key + "="
	}
	switch opt {
	case "ro", "rw":
		return "ro"
	case "async":
		return "sync"
	case "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
		return "private"
	case "relatime", "norelatime", "strictatime", "nostrictatime", "noatime", "atime":
		return "atime"
	}
	return strings.TrimPrefix(opt, "no")
}
