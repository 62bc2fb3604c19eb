package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices adds device nodes and what the devices cgroup lets through. The
// runtime makes the default nodes (runtime-spec, config-linux.md, Default
// Devices) without being told.
func (b *builder) devices() error {
	if b.o.Privileged {
		return b.allDevices()
	}
	allow := defaultDeviceRules()
	for _, d := range b.o.Devices {
		nodes, err := deviceNodes(d.Host, d.Container)
		if err != nil {
			return fmt.Errorf("--device %q: %w", d.Host, err)
		}
		for i := range nodes {
			n := &nodes[i]
			allow = append(allow, deviceRule(n.Type, n.Major, n.Minor, d.Permissions))
		}
		b.spec.Linux.Devices = append(b.spec.Linux.Devices, nodes...)
	}
	for _, r := range b.o.DeviceCgroupRules {
		allow = append(allow, deviceRule(r.Type, r.Major, r.Minor, r.Permissions))
	}
	b.spec.Linux.Resources.Devices = allow
	return nil
}

// allDevices gives a privileged container the host's nodes and all access.
// A --device can still show one of them under another name.
func (b *builder) allDevices() error {
	nodes, err := deviceNodes("/dev", "/dev")
	if err != nil {
		return fmt.Errorf("list the host's devices: %w", err)
	}
	for _, d := range b.o.Devices {
		if d.Permissions != "rwm" {
			b.warn("--device %s: permissions %q mean nothing in a privileged container", d.Host, d.Permissions)
		}
		if d.Host == d.Container {
			continue // it is among the host's
		}
		more, err := deviceNodes(d.Host, d.Container)
		if err != nil {
			return fmt.Errorf("--device %q: %w", d.Host, err)
		}
		nodes = append(nodes, more...)
	}
	b.spec.Linux.Devices = nodes
	b.spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Type: "a", Access: "rwm"}}
	return nil
}

const anyDevice = -1

// deviceRule allows a device; anyDevice leaves a number out, which is a
// wildcard in the runtime-spec.
func deviceRule(typ string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	r := specs.LinuxDeviceCgroup{Allow: true, Type: typ, Access: access}
	if major != anyDevice {
		r.Major = &major
	}
	if minor != anyDevice {
		r.Minor = &minor
	}
	return r
}

// defaultDeviceRules: nothing, then making any node, then using the harmless
// ones (numbers from the kernel's Documentation/admin-guide/devices.txt).
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Type: "a", Access: "rwm"},
		deviceRule("c", anyDevice, anyDevice, "m"),
		deviceRule("b", anyDevice, anyDevice, "m"),
		deviceRule("c", 1, 3, "rwm"),           // null
		deviceRule("c", 1, 5, "rwm"),           // zero
		deviceRule("c", 1, 7, "rwm"),           // full
		deviceRule("c", 1, 8, "rwm"),           // random
		deviceRule("c", 1, 9, "rwm"),           // urandom
		deviceRule("c", 5, 0, "rwm"),           // tty
		deviceRule("c", 5, 1, "rwm"),           // console
		deviceRule("c", 5, 2, "rwm"),           // ptmx
		deviceRule("c", 136, anyDevice, "rwm"), // pts/*
	}
}

// deviceNodes gives the device at a path of the host, or all below a directory,
// as nodes of the container. A link at host itself is followed.
func deviceNodes(host, container string) ([]specs.LinuxDevice, error) {
	real, err := filepath.EvalSymlinks(host)
	if err != nil {
		return nil, fmt.Errorf("no such device on the host: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(real, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", real, err)
	}
	if d, ok := deviceNode(container, &st); ok {
		return []specs.LinuxDevice{d}, nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, errors.New("not a device node or a directory of them")
	}
	nodes, err := walkDevices(real, container)
	if err == nil && len(nodes) == 0 {
		err = errors.New("the directory holds no device node")
	}
	return nodes, err
}

// walkDevices leaves out what a container has of its own in /dev, and nodes
// that vanish on the way.
func walkDevices(dir, container string) ([]specs.LinuxDevice, error) {
	var nodes []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case e.IsDir():
			if path != dir && isOwnDirectory(e.Name()) {
				return fs.SkipDir
			}
			return nil
		case e.Type()&os.ModeDevice == 0 || e.Name() == "console":
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return fmt.Errorf("stat %s: %w", path, err)
		}
		if d, ok := deviceNode(container+strings.TrimPrefix(path, dir), &st); ok {
			nodes = append(nodes, d)
		}
		return nil
	})
	return nodes, err
}

func isOwnDirectory(name string) bool {
	switch name {
	case "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
		return true
	}
	return false
}

func deviceNode(path string, st *unix.Stat_t) (specs.LinuxDevice, bool) {
	typ := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		typ = "c"
	case unix.S_IFBLK:
		typ = "b"
	default:
		return specs.LinuxDevice{}, false
	}
	mode := os.FileMode(st.Mode & 0o7777)
	return specs.LinuxDevice{
		Path: path, Type: typ, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev))),
	}, true
}
