package runtime

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
	"github.com/brig-run/brig/internal/tree"
)

const (
	emptyPath = unix.AT_EMPTY_PATH
	moveBoth  = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	atCWD     = unix.AT_FDCWD
)

// mountPlan is one entry of the spec's mounts, thought through.
type mountPlan struct {
	specs.Mount
	o        mountOptions
	dst      string     // in the container, without links
	bind     *bindMount // nil for a file system
	tree     uint8      // a detached mount made here: a tmpfs with content
	fallback uint8      // clone of the host's mount, where the kernel may refuse a new one
}

// rootfs plans the mount namespace: take what is needed of the host, move into
// the new root, let go of the host, then mount everything else within.
func (p *planner) rootfs() error {
	defer p.closeAll()
	mounts, err := p.planMounts()
	if err != nil {
		return err
	}
	p.setProcess(p.spec.Process, func(name string) (*os.File, error) { return p.view.open(p.view.resolve(name)) })
	root, err := rootPropagation(p.spec.Linux.RootfsPropagation)
	if err != nil {
		return err
	}
	// A tree that shall stay shared with the host must be cloned before the
	// namespace leaves the host's peer groups.
	p.cloneTrees(mounts, true)
	p.What("leave the host's mount propagation")
	p.Call(unix.SYS_MOUNT, inside.V(0), p.Str("/"), inside.V(0), inside.V(unix.MS_REC|root.host), inside.V(0))
	p.cloneTrees(mounts, false)
	p.cloneCgroups()
	masks, err := p.maskSources()
	if err != nil {
		return err
	}
	nodes, err := p.deviceSources()
	if err != nil {
		return err
	}
	p.mountRoot(root)
	// In a user namespace proc and sysfs can be mounted only while the host's are
	// in sight (fs/namespace.c, mount_too_revealing).
	late := p.cfg.Hooks || p.hasUserns()
	if !late {
		p.enterRoot()
	}
	for i := range mounts {
		if err := p.mount(&mounts[i]); err != nil {
			return fmt.Errorf("spec: mounts[%d]: %w", i, err)
		}
	}
	p.devices(nodes)
	p.console()
	if p.cfg.Hooks {
		p.What("wait for the hooks")
		p.Ask(inside.AskHooks)
	}
	if late {
		p.enterRoot()
	}
	p.readonlyMounts(mounts)
	p.sysctls()
	writable := p.keepWritable()
	p.maskPaths(masks)
	p.readonlyPaths()
	p.restoreWritable(writable)
	p.makeCwd()
	p.sealRoot(root)
	return nil
}

// planMounts finds out all that the mounts need, while the host is at hand.
func (p *planner) planMounts() ([]mountPlan, error) {
	p.view = newView(p.cfg.Root)
	mounts := make([]mountPlan, len(p.spec.Mounts))
	for i, m := range p.spec.Mounts {
		mounts[i] = mountPlan{Mount: m, o: parseMountOptions(m.Options)}
		if err := p.planMount(&mounts[i]); err != nil {
			return nil, fmt.Errorf("spec: mounts[%d]: %w", i, err)
		}
	}
	return mounts, nil
}

func (p *planner) planMount(m *mountPlan) error {
	dst := path.Clean("/" + m.Destination)
	if p.spec.Root != nil && path.IsAbs(p.spec.Root.Path) && p.spec.Root.Path != "/" {
		if rel, ok := below(path.Clean(p.spec.Root.Path), dst); ok {
			dst = rel // old callers name the host's path
		}
	}
	if isKernelFS(m.Type) && !isBind(m.Mount, &m.o) {
		if err := p.ordinaryDirectory(m.Type, dst); err != nil {
			return err
		}
	}
	if m.dst = p.view.resolve(dst); m.dst == "/" {
		return fmt.Errorf("destination %q: cannot mount over the root file system", m.Destination)
	}
	source := ""
	switch {
	case m.o.remount:
	case isCgroup(m.Mount):
	case isBind(m.Mount, &m.o):
		if err := bindData(&m.o); err != nil {
			return err
		}
		b, err := p.bindSource(m.Mount, &m.o)
		if err != nil {
			return err
		}
		m.bind = b
		if source = b.source; b.within {
			source = ""
		}
	case wantsIDMap(m.Mount, &m.o):
		return fmt.Errorf("only a bind mount can have IDs of its own (idmap, uidMappings, gidMappings), not one of type %s", m.Type)
	case m.Type == "tmpfs":
		if err := p.planTmpfs(m); err != nil {
			return err
		}
	default:
		m.fallback = p.fallbackTree(m.Type)
	}
	if err := p.mayCover(m); err != nil {
		return err
	}
	if m.tree == 0 {
		p.view.add(m.dst, source, nil)
	}
	return nil
}

// bindData: the kernel ignores data of a bind mount, so it is refused.
func bindData(o *mountOptions) error {
	if len(o.data) > 0 {
		return fmt.Errorf("options %q: not known, and a bind mount has no options of a file system", strings.Join(o.data, ","))
	}
	return nil
}

func isKernelFS(fstype string) bool { return fstype == "proc" || fstype == "sysfs" }

// ordinaryDirectory: proc and sysfs are mounted on a directory itself, never
// where a link of the image leads (CVE-2019-19921, CVE-2023-27561).
func (p *planner) ordinaryDirectory(fstype, dst string) error {
	if _, err := p.view.readlink(dst); err == nil {
		return fmt.Errorf("filesystem %q must be mounted on ordinary directory, and %s is a symbolic link", fstype, dst)
	}
	return nil
}

// procFiles may be covered by mounts, because lxcfs gives containers their own.
var procFiles = [...]string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo", "/proc/stat",
	"/proc/swaps", "/proc/uptime", "/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/ns_last_pid",
}

// mayCover refuses mounts over /proc: the start writes there what confines the
// container, and must not be deceived (CVE-2019-16884, CVE-2025-52881).
func (p *planner) mayCover(m *mountPlan) error {
	rel, ok := below("/proc", m.dst)
	switch {
	case !ok || slices.Contains(procFiles[:], m.dst) || m.o.remount:
		return nil
	case rel != "/":
		return fmt.Errorf("%q cannot be mounted because it is inside /proc", m.dst)
	case m.bind == nil && m.Type == "proc", m.bind != nil && m.bind.proc:
		return nil
	}
	return fmt.Errorf("%q cannot be mounted because it is not of type proc", m.dst)
}

// fallbackTree clones the host's own mount of a kernel file system, for a
// container whose user namespace does not own what the file system shows: the
// kernel then refuses a new one (with EPERM).
func (p *planner) fallbackTree(fstype string) uint8 {
	of := map[string]struct {
		source string
		ns     specs.LinuxNamespaceType
	}{
		"sysfs":  {"/sys", specs.NetworkNamespace},
		"mqueue": {"/dev/mqueue", specs.IPCNamespace},
		"proc":   {"/proc", specs.PIDNamespace},
	}[fstype]
	if of.source == "" || !p.hasUserns() || p.has(of.ns) || p.joins(of.ns) {
		return 0
	}
	tree, err := cloneHere(of.source, true)
	if err != nil {
		return 0 // then the kernel's own answer will say why
	}
	if (attrOp{propagation: unix.MS_SLAVE, recursive: true}).apply(tree) != nil {
		tree.Close()
		return 0
	}
	return p.pass(tree)
}

// planTmpfs gives a tmpfs the mode of the directory below it, unless it has one
// of its own, and with tmpcopyup its content, too.
func (p *planner) planTmpfs(m *mountPlan) error {
	if m.o.copyUp || !m.o.has("mode") {
		f, err := p.view.open(m.dst)
		if err != nil {
			return nil // there is none yet
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return err
		}
		if !m.o.has("mode") && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			m.o.data = append([]string{fmt.Sprintf("mode=%04o", st.Mode&0o7777)}, m.o.data...)
		}
		if m.o.copyUp && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return p.copyUp(m, f)
		}
	}
	return nil
}

// copyUp makes the tmpfs here, with a copy of the directory below it.
func (p *planner) copyUp(m *mountPlan, lower *os.File) error {
	o := m.o
	o.set &^= unix.MS_RDONLY // until all is in it
	o.recSet &^= unix.MOUNT_ATTR_RDONLY
	mnt, err := detached("tmpfs", o)
	if err != nil {
		return fmt.Errorf("tmpcopyup: make a tmpfs for %s: %w", m.dst, err)
	}
	m.tree = p.pass(mnt)
	p.view.add(m.dst, "", mnt)
	if err := copyInto(mnt, lower); err != nil {
		return fmt.Errorf("tmpcopyup: copy %s: %w", m.dst, err)
	}
	for _, pr := range o.propagation {
		if err := (attrOp{propagation: pr.kind, recursive: pr.recursive}).apply(mnt); err != nil {
			return fmt.Errorf("set the propagation of %s: %w", m.dst, err)
		}
	}
	return nil
}

// copyInto fills a new tmpfs. Its mode is what its options say, or already that
// of the directory below.
func copyInto(mnt, lower *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(mnt.Fd()), &st); err != nil {
		return err
	}
	if err := tree.Copy(context.Background(), lower, mnt); err != nil {
		return err
	}
	return unix.Fchmodat(int(mnt.Fd()), ".", st.Mode&0o7777, 0)
}

// cloneTrees has the child clone the bind sources that were not cloned here:
// those that share with the host, or the others.
func (p *planner) cloneTrees(mounts []mountPlan, shared bool) {
	for i := range mounts {
		m := &mounts[i]
		if b := m.bind; b != nil && !b.within && !b.cloned && m.o.shared() == shared {
			p.clone(b, &m.o)
		}
	}
}

// rootChange is what linux.rootfsPropagation means: for the host's mounts as
// the new namespace sees them, before they are cloned, for the root while the
// container is made, and at the end.
type rootChange struct {
	host  uint64
	below propagation   // of what is mounted below the root
	top   uint64        // of the root itself: pivot_root refuses a shared one, and nothing may leak to the host
	final []propagation // at the end
}

func rootPropagation(s string) (rootChange, error) {
	c := rootChange{host: unix.MS_SLAVE, below: propagation{unix.MS_SLAVE, true}, top: unix.MS_PRIVATE}
	if s == "" {
		return c, nil
	}
	c.final = parseMountOptions([]string{s}).propagation
	if len(c.final) == 0 {
		return c, fmt.Errorf("spec: linux.rootfsPropagation: %q is not supported; it is one of shared, slave, private, unbindable, or one of these with an r before it", s)
	}
	switch pr := c.final[0]; pr.kind {
	case unix.MS_SLAVE:
		c.top = unix.MS_SLAVE
	case unix.MS_PRIVATE:
		if pr.recursive {
			c.host, c.below.kind = unix.MS_PRIVATE, unix.MS_PRIVATE
		}
	}
	return c, nil
}

// mountRoot mounts the new root over MountPoint and keeps it open. From here on
// everything in it is reached through that descriptor.
func (p *planner) mountRoot(c rootChange) {
	p.What("mount the root file system on " + p.cfg.MountPoint)
	root := p.pass(p.cfg.Root)
	p.setattr(root, 0, 0, c.below.kind, true)
	p.setattr(root, 0, 0, c.top, false)
	p.Call(unix.SYS_MOVE_MOUNT, inside.R(root), p.Str(""), inside.V(atCWD), p.Str(p.cfg.MountPoint), inside.V(unix.MOVE_MOUNT_F_EMPTY_PATH))
	p.Call(unix.SYS_OPENAT, inside.V(atCWD), p.Str("/"), inside.V(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), inside.V(0)).To(p.old)
	p.Pseudo(inside.Set, inside.R(root)).To(p.root)
}

// enterRoot makes the new root the child's and detaches the host's tree. What
// follows can reach the host only through descriptors that were opened before.
func (p *planner) enterRoot() {
	p.What("change into the root file system")
	p.Call(unix.SYS_FCHDIR, inside.R(p.root))
	if p.cfg.NoPivot {
		// The old root stays below the new one: what tells most of the host must not
		// be there for whoever gets at it, nor make the kernel trust new mounts.
		for _, dir := range []string{"/proc", "/sys"} {
			p.Call(unix.SYS_UMOUNT2, p.Str(dir), inside.V(unix.MNT_DETACH)).On(inside.AnyErrno, 0)
		}
		if p.cfg.MountPoint != "/" { // else it is there
			p.Call(unix.SYS_MOVE_MOUNT, inside.R(p.root), p.Str(""), inside.V(atCWD), p.Str("/"), inside.V(unix.MOVE_MOUNT_F_EMPTY_PATH))
		}
		p.Call(unix.SYS_CHROOT, p.Str("."))
	} else {
		p.Call(unix.SYS_PIVOT_ROOT, p.Str("."), p.Str("."))
		p.What("detach the host's file systems")
		p.Call(unix.SYS_FCHDIR, inside.R(p.old))
		p.Call(unix.SYS_UMOUNT2, p.Str("."), inside.V(unix.MNT_DETACH))
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.old))
	p.Call(unix.SYS_CHDIR, p.Str("/"))
}

// mount mounts one entry of the spec at its destination.
func (p *planner) mount(m *mountPlan) error {
	switch {
	case m.o.remount:
		p.remount(m)
		return nil
	case isCgroup(m.Mount):
		p.mountCgroup(m)
		return nil
	case m.bind != nil:
		p.What(fmt.Sprintf("bind %s on %s", m.Source, m.dst))
		if m.bind.within {
			p.cloneWithin(m.bind, &m.o)
		}
		p.target(m.dst, !m.bind.isDir, p.tmp2)
		p.moveTo(m.bind.reg, p.tmp2)
		if m.bind.proc && m.dst == "/proc" {
			p.Pseudo(inside.Set, inside.R(m.bind.reg)).To(p.proc)
			p.hasProc = true
		} else {
			p.Call(unix.SYS_CLOSE, inside.R(m.bind.reg))
		}
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
		return nil
	}
	p.What(fmt.Sprintf("mount %s on %s", orElse(m.Type, m.Source), m.dst))
	p.target(m.dst, false, p.tmp2)
	switch {
	case m.tree != 0:
		p.moveTo(m.tree, p.tmp2)
		p.Call(unix.SYS_CLOSE, inside.R(m.tree))
	case m.Type == "proc":
		p.mountProc(m)
	case m.Type == "devpts" && m.dst == "/dev/pts" && p.cfg.Terminal != nil && p.cfg.Terminal.Mount != nil:
		p.moveTo(p.pass(p.cfg.Terminal.Mount), p.tmp2)
	default:
		p.mountFS(m)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
	return nil
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (p *planner) moveTo(tree, target uint8) {
	p.Call(unix.SYS_MOVE_MOUNT, inside.R(tree), p.Str(""), inside.R(target), p.Str(""), inside.V(moveBoth))
}

// mountFS mounts a file system on the directory in tmp2, by way of the current
// directory: mount(2) takes no descriptor, and a path would be followed again.
func (p *planner) mountFS(m *mountPlan) {
	flags := m.o.flags()
	if p.readonlyLate(m) {
		flags &^= unix.MS_RDONLY
	}
	p.Call(unix.SYS_FCHDIR, inside.R(p.tmp2))
	step := p.Call(unix.SYS_MOUNT, p.Str(orElse(m.Source, m.Type)), p.Str("."), p.Str(m.Type), inside.V(flags), p.data(m))
	if m.fallback != 0 {
		step.Later(uint16(unix.EPERM))
		mounted := p.Pseudo(inside.Jump)
		p.Land(step)
		p.moveTo(m.fallback, p.tmp2)
		p.setattr(m.fallback, m.o.attrs()&^attrAtime, 0, 0, true)
		p.Land(mounted)
	}
	p.setPropagation(m)
}

func (p *planner) data(m *mountPlan) inside.Arg {
	if len(m.o.data) == 0 {
		return inside.V(0)
	}
	return p.Str(strings.Join(m.o.data, ","))
}

// setPropagation changes the mount at m's destination, which has to be looked
// up again: the directory that it was mounted on lies below it.
func (p *planner) setPropagation(m *mountPlan) {
	if len(m.o.propagation) == 0 {
		return
	}
	p.open(p.root, m.dst, openPath, strictly, p.tmp)
	for _, pr := range m.o.propagation {
		p.setattr(p.tmp, 0, 0, pr.kind, pr.recursive)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
}

// remount changes what is mounted at the destination already: the file system
// and the mount, or with bind the mount alone, mount(8).
func (p *planner) remount(m *mountPlan) {
	p.What("remount " + m.dst)
	p.open(p.root, m.dst, openPath, strictly, p.tmp)
	if isBind(m.Mount, &m.o) {
		set, clr := m.o.bindAttrs()
		p.setattr(p.tmp, set, clr, 0, false)
	} else {
		p.Call(unix.SYS_FCHDIR, inside.R(p.tmp))
		p.Call(unix.SYS_MOUNT, inside.V(0), p.Str("."), inside.V(0), inside.V(m.o.flags()|unix.MS_REMOUNT), p.data(m))
	}
	if m.o.recSet|m.o.recClr != 0 {
		p.setattr(p.tmp, m.o.recSet, m.o.recClr, 0, true)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	p.setPropagation(m)
}

// readonlyLate says whether a mount becomes read-only only when the mount
// points and device nodes in it are made.
func (p *planner) readonlyLate(m *mountPlan) bool {
	return m.o.flags()&unix.MS_RDONLY != 0 && !m.o.remount && m.bind == nil && (m.Type == "tmpfs" || m.dst == "/dev")
}

func (p *planner) readonlyMounts(mounts []mountPlan) {
	for i := range mounts {
		m := &mounts[i]
		if !p.readonlyLate(m) {
			continue
		}
		p.What("make " + m.dst + " read-only")
		p.open(p.root, m.dst, openPath, strictly, p.tmp)
		p.setattr(p.tmp, unix.MOUNT_ATTR_RDONLY, 0, 0, false)
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	}
}

// mountProc keeps the descriptor of the mount on /proc: all later access to
// /proc goes through it, whatever else comes to lie over it.
func (p *planner) mountProc(m *mountPlan) {
	mnt := p.proc
	if m.dst != "/proc" {
		mnt = p.NewReg()
	}
	p.Call(unix.SYS_FSOPEN, p.Str("proc"), inside.V(unix.FSOPEN_CLOEXEC)).To(p.tmp)
	p.fsconfig(p.tmp, append([]string{"source=" + orElse(m.Source, "proc")}, m.o.data...))
	create := p.Call(unix.SYS_FSCONFIG, inside.R(p.tmp), inside.V(unix.FSCONFIG_CMD_CREATE), inside.V(0), inside.V(0), inside.V(0))
	if m.fallback != 0 {
		create.Later(uint16(unix.EPERM))
	}
	p.Call(unix.SYS_FSMOUNT, inside.R(p.tmp), inside.V(unix.FSMOUNT_CLOEXEC), inside.V(m.o.attrs())).To(mnt)
	if m.fallback != 0 {
		mounted := p.Pseudo(inside.Jump)
		p.Land(create)
		p.Pseudo(inside.Set, inside.R(m.fallback)).To(mnt)
		p.setattr(mnt, m.o.attrs()&^attrAtime, 0, 0, true)
		p.Land(mounted)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	for _, pr := range m.o.propagation {
		p.setattr(mnt, 0, 0, pr.kind, pr.recursive)
	}
	p.moveTo(mnt, p.tmp2)
	p.hasProc = p.hasProc || m.dst == "/proc"
}

// fsconfig gives a file system its own options, fsconfig(2).
func (p *planner) fsconfig(fs uint8, data []string) {
	for _, kv := range data {
		if k, v, ok := strings.Cut(kv, "="); ok {
			p.Call(unix.SYS_FSCONFIG, inside.R(fs), inside.V(unix.FSCONFIG_SET_STRING), p.Str(k), p.Str(v), inside.V(0))
		} else {
			p.Call(unix.SYS_FSCONFIG, inside.R(fs), inside.V(unix.FSCONFIG_SET_FLAG), p.Str(k), inside.V(0), inside.V(0))
		}
	}
}

// sysctls writes linux.sysctl through the container's own /proc.
func (p *planner) sysctls() {
	for _, k := range sortedKeys(p.spec.Linux.Sysctl) {
		v := p.spec.Linux.Sysctl[k]
		p.What(fmt.Sprintf("set sysctl %s = %s", k, v))
		p.open(p.proc, "sys/"+sysctlPath(k), unix.O_WRONLY|unix.O_CLOEXEC, ownProc, p.tmp)
		p.Call(unix.SYS_WRITE, inside.R(p.tmp), p.Str(v), inside.V(len(v)))
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	}
}

// sysctlPath turns a sysctl's name into its path: dots separate, and a slash
// stands for a dot within a component (net.ipv4.conf.eth0/1.x), sysctl(8).
func sysctlPath(k string) string {
	if strings.IndexByte(k, '/') >= 0 && (strings.IndexByte(k, '.') < 0 || strings.IndexByte(k, '/') < strings.IndexByte(k, '.')) {
		return k
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, k)
}

// sealRoot makes the root read-only when asked, and shares it as asked.
func (p *planner) sealRoot(c rootChange) {
	p.Call(unix.SYS_CHDIR, p.Str("/"))
	if p.spec.Root != nil && p.spec.Root.Readonly {
		p.What("make the root file system read-only")
		p.setattr(p.root, unix.MOUNT_ATTR_RDONLY, 0, 0, false)
	}
	for _, pr := range c.final {
		p.What("set the propagation of the root file system")
		p.setattr(p.root, 0, 0, pr.kind, pr.recursive)
	}
}

// makeCwd makes the working directory if the image lacks it, as Docker does.
func (p *planner) makeCwd() {
	cwd := path.Clean("/" + p.spec.Process.Cwd)
	if cwd == "/" {
		return
	}
	p.What("make working directory " + cwd)
	missing := p.open(p.root, cwd, openPath, inRoot, p.tmp2).Later(uint16(unix.ENOENT))
	found := p.Pseudo(inside.Jump)
	p.Land(missing)
	p.target(p.view.resolve(cwd), false, p.tmp2)
	p.Land(found)
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
}
