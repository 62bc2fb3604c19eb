package runtime

import (
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// node is a device of the container.
type node struct {
	specs.LinuxDevice
	path string
	tree uint8 // a clone of the host's node, where the child may not make one
}

// ownDev says whether the container's /dev is to be filled: one that the user
// bound from elsewhere is left as it is, as runc does.
func (p *planner) ownDev() bool {
	for _, m := range p.spec.Mounts {
		o := parseMountOptions(m.Options)
		if path.Clean("/"+m.Destination) == "/dev" && isBind(m, &o) {
			return false
		}
	}
	return true
}

// deviceSources lists the nodes to make: the spec's, then the default ones that
// it does not name. A child in a user namespace may not make devices, so it
// gets the host's, which must be what the spec says they are.
func (p *planner) deviceSources() ([]node, error) {
	if !p.ownDev() {
		return nil, nil
	}
	var nodes []node
	named := map[string]bool{"/dev/ptmx": true} // that is always a link
	for i, d := range p.spec.Linux.Devices {
		n := node{LinuxDevice: d, path: path.Clean("/" + d.Path)}
		if named[n.path] {
			continue
		}
		if err := p.deviceSource(&n); err != nil {
			return nil, fmt.Errorf("spec: linux.devices[%d]: %w", i, err)
		}
		named[n.path] = true
		nodes = append(nodes, n)
	}
	for _, d := range DefaultDevices() {
		n := node{LinuxDevice: d, path: d.Path}
		if named[n.path] {
			continue
		}
		if err := p.deviceSource(&n); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func (p *planner) deviceSource(n *node) error {
	kind, err := deviceKind(n.Type)
	if err != nil || !p.hasUserns() || kind == unix.S_IFIFO {
		return err
	}
	tree, err := p.hostNode(n.path, 0)
	if err != nil {
		return fmt.Errorf("device %s: a container with a user namespace gets the host's: %w", n.path, err)
	}
	n.tree = p.pass(tree)
	var st unix.Stat_t
	if err := unix.Fstat(int(tree.Fd()), &st); err != nil {
		return fmt.Errorf("device %s: %w", n.path, err)
	}
	if st.Mode&unix.S_IFMT != kind || st.Rdev != unix.Mkdev(uint32(n.Major), uint32(n.Minor)) {
		return fmt.Errorf("device %s: a container with a user namespace gets the host's, and that is not %s %d:%d", n.path, n.Type, n.Major, n.Minor)
	}
	return nil
}

// hostNode clones the mount of a device of the host.
func (p *planner) hostNode(name string, attrs uint64) (*os.File, error) {
	tree, err := cloneHere(name, false)
	if err != nil {
		return nil, err
	}
	for _, op := range []attrOp{{propagation: unix.MS_PRIVATE}, {set: attrs | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, clr: unix.MOUNT_ATTR_NODEV}} {
		if err := op.apply(tree); err != nil {
			tree.Close()
			return nil, err
		}
	}
	return tree, nil
}

func deviceKind(t string) (uint32, error) {
	switch t {
	case "c", "u":
		return unix.S_IFCHR, nil
	case "b":
		return unix.S_IFBLK, nil
	case "p":
		return unix.S_IFIFO, nil
	}
	return 0, fmt.Errorf("type %q: want c, u, b or p", t)
}

// devices makes the device nodes and the links in /dev.
func (p *planner) devices(nodes []node) {
	if !p.ownDev() {
		return
	}
	p.What("make device nodes in /dev")
	dev := p.NewReg()
	devPath := p.view.resolve("/dev")
	p.target(devPath, false, dev)
	for i := range nodes {
		p.device(dev, devPath, &nodes[i])
	}
	p.What("make links in /dev")
	p.Call(unix.SYS_UNLINKAT, inside.R(dev), p.Str("ptmx"), inside.V(0)).On(inside.AnyErrno, 0) // an image's own
	links := [][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}}
	if _, err := os.Lstat("/proc/kcore"); err == nil { // not every kernel has it
		links = append(links, [2]string{"/proc/kcore", "core"})
	}
	for _, l := range links {
		p.Call(unix.SYS_SYMLINKAT, p.Str(l[0]), inside.R(dev), p.Str(l[1])).On(uint16(unix.EEXIST), 0)
	}
	p.Call(unix.SYS_CLOSE, inside.R(dev))
}

// DefaultDevices are the nodes that every Linux container has, runtime-spec
// config-linux.md "Default Devices"; the links and ptmx come by themselves.
func DefaultDevices() []specs.LinuxDevice {
	mode := os.FileMode(0o666)
	dev := func(name string, major, minor int64) specs.LinuxDevice {
		return specs.LinuxDevice{Path: "/dev/" + name, Type: "c", Major: major, Minor: minor, FileMode: &mode}
	}
	return []specs.LinuxDevice{
		dev("null", 1, 3), dev("zero", 1, 5), dev("full", 1, 7),
		dev("random", 1, 8), dev("urandom", 1, 9), dev("tty", 5, 0),
	}
}

// device makes one node, in the directory dev if that is where it belongs. What
// is there already stays.
func (p *planner) device(dev uint8, devPath string, n *node) {
	p.What("make device " + n.path)
	name := path.Join(p.view.resolve(path.Dir(n.path)), path.Base(n.path))
	if n.tree != 0 {
		p.target(name, true, p.tmp2)
		p.moveTo(n.tree, p.tmp2)
		p.Call(unix.SYS_CLOSE, inside.R(n.tree))
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
		return
	}
	dir := dev
	if parent := path.Dir(name); parent != devPath {
		dir = p.tmp2
		p.target(parent, false, dir)
	}
	kind, _ := deviceKind(n.Type)
	mode := uint32(0o666)
	if n.FileMode != nil {
		mode = uint32(*n.FileMode) & 0o7777
	}
	base := p.Str(path.Base(name))
	there := p.Call(unix.SYS_MKNODAT, inside.R(dir), base, inside.V(mode|kind), inside.V(unix.Mkdev(uint32(n.Major), uint32(n.Minor)))).Later(uint16(unix.EEXIST))
	if n.UID != nil || n.GID != nil {
		p.Call(unix.SYS_FCHOWNAT, inside.R(dir), base, inside.V(orZero(n.UID)), inside.V(orZero(n.GID)), inside.V(unix.AT_SYMLINK_NOFOLLOW))
	}
	p.Land(there)
	if dir == p.tmp2 {
		p.Call(unix.SYS_CLOSE, inside.R(dir))
	}
}

func orZero(id *uint32) uint32 {
	if id == nil {
		return 0
	}
	return *id
}

// Terminal is the container's pseudo terminal. Its devpts instance is made
// before the container starts, as a detached mount: so the master never has to
// be handed out of the container.
type Terminal struct {
	Mount  *os.File // detached devpts mount, for the container's /dev/pts
	Master *os.File
}

// NewTerminal makes a devpts instance for the options of m, and opens a
// terminal in it.
func NewTerminal(m specs.Mount) (*Terminal, error) {
	mnt, err := detached("devpts", parseMountOptions(m.Options))
	if err != nil {
		return nil, fmt.Errorf("make a devpts instance: %w", err)
	}
	fd, err := unix.Openat(int(mnt.Fd()), "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		mnt.Close()
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	return &Terminal{Mount: mnt, Master: os.NewFile(uintptr(fd), "ptmx")}, nil
}

// detached makes a file system that is mounted nowhere yet.
func detached(fstype string, o mountOptions) (*os.File, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs)
	for _, kv := range append([]string{"source=" + fstype}, o.data...) {
		k, v, hasValue := strings.Cut(kv, "=")
		if hasValue {
			err = unix.FsconfigSetString(fs, k, v)
		} else {
			err = unix.FsconfigSetFlag(fs, k)
		}
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", kv, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(o.attrs()))
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fstype), nil
}

// console opens the terminal's slave as the container's standard streams, and
// binds it over /dev/console.
func (p *planner) console() {
	if p.cfg.Terminal == nil {
		return
	}
	p.What("open the terminal")
	slave := p.NewReg()
	p.Call(unix.SYS_IOCTL, inside.R(p.terminalMaster()), inside.V(unix.TIOCGPTPEER), inside.V(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).To(slave)
	for r := uint8(inside.RegStdin); r <= inside.RegStderr; r++ {
		p.Pseudo(inside.Set, inside.R(slave)).To(r)
	}
	p.What("bind the terminal on /dev/console")
	p.Call(unix.SYS_OPEN_TREE, inside.R(slave), p.Str(""), inside.V(emptyPath|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(p.tmp2)
	console := p.NewReg()
	p.target(path.Join(p.view.resolve("/dev"), "console"), true, console)
	p.moveTo(p.tmp2, console)
}

// terminalMaster gives the register of the terminal's master. In a user
// namespace the terminal belongs to the container's own devpts, and the parent
// takes the master from the waiting child.
func (p *planner) terminalMaster() uint8 {
	if p.cfg.Terminal.Master != nil {
		return p.pass(p.cfg.Terminal.Master)
	}
	master := p.NewReg()
	p.open(p.root, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, inRoot|unix.RESOLVE_NO_SYMLINKS, master)
	p.Call(unix.SYS_IOCTL, inside.R(master), inside.V(unix.TIOCSPTLCK), p.Bytes(make([]byte, 4)))
	p.plan.TerminalReg = master
	p.Ask(inside.AskTerminal)
	return master
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
