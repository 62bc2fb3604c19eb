package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Validate refuses what cannot become a container, before anything is made:
// errors name the field and what is wrong with it. bundle is the directory that
// relative paths start from. The warnings are of things that other runtimes
// accept, too, and that will not be as written.
func Validate(spec *specs.Spec, bundle string) (warnings []string, err error) {
	v := &validator{spec: spec, linux: spec.Linux, bundle: bundle}
	if v.linux == nil {
		return nil, errors.New("spec: linux: is required")
	}
	checks := [...]func() error{v.version, v.root, v.platforms, v.process, v.annotations, v.hooks, v.namespaces, v.userNamespace,
		v.timeNamespace, v.names, v.paths, v.mounts, v.sysctls, v.devices, v.netDevices, v.intelRdt, v.attributes}
	for _, check := range checks {
		if err := check(); err != nil {
			return v.warnings, fmt.Errorf("spec: %w", err)
		}
	}
	return v.warnings, nil
}

type validator struct {
	spec     *specs.Spec
	linux    *specs.Linux
	bundle   string
	warnings []string
}

func (v *validator) warn(format string, args ...any) {
	v.warnings = append(v.warnings, fmt.Sprintf(format, args...))
}

// has says whether the container makes or joins a namespace of that type.
func (v *validator) has(t specs.LinuxNamespaceType) bool { return v.namespace(t) != nil }

func (v *validator) namespace(t specs.LinuxNamespaceType) *specs.LinuxNamespace {
	i := slices.IndexFunc(v.linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
	if i < 0 {
		return nil
	}
	return &v.linux.Namespaces[i]
}

// version accepts all versions 1: later ones only add, SemVer.
func (v *validator) version() error {
	s := v.spec.Version
	if s == "" {
		v.warn("ociVersion: is missing; taken as %s", specs.Version)
		return nil
	}
	core, _, _ := strings.Cut(s, "+")
	core, _, _ = strings.Cut(core, "-")
	parts := strings.Split(core, ".")
	ok := len(parts) == 3
	for _, n := range parts {
		_, err := strconv.ParseUint(n, 10, 32)
		ok = ok && err == nil
	}
	switch {
	case !ok:
		return fmt.Errorf("ociVersion: %q is not a version such as %s", s, specs.Version)
	case parts[0] != "1":
		return fmt.Errorf("ociVersion: %q is not supported; versions 1.x are", s)
	}
	return nil
}

func (v *validator) root() error {
	if v.spec.Root == nil {
		return errors.New("root must be specified")
	}
	dir := v.spec.Root.Path
	if hasNUL(dir) {
		return errors.New("root.path: contains a null byte")
	}
	if !filepath.IsAbs(dir) {
		bundle, err := filepath.EvalSymlinks(v.bundle)
		if err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		if bundle, err = filepath.Abs(bundle); err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		dir = filepath.Join(bundle, dir)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("root.path: invalid rootfs: %w", err)
	}
	if real != filepath.Clean(dir) {
		return fmt.Errorf("root.path: invalid rootfs: %s is, or goes through, a symbolic link; write %s", dir, real)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("root.path: invalid rootfs: %w", err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("root.path: invalid rootfs: %s is not a directory", dir)
	}
	return nil
}

func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }

func (v *validator) platforms() error {
	for _, p := range []struct {
		name string
		set  bool
	}{{"solaris", v.spec.Solaris != nil}, {"windows", v.spec.Windows != nil}, {"vm", v.spec.VM != nil}, {"zos", v.spec.ZOS != nil}, {"freebsd", v.spec.FreeBSD != nil}} {
		if p.set {
			v.warn("%s: ignored: it is for another platform", p.name)
		}
	}
	return nil
}

func (v *validator) process() error {
	if v.spec.Process == nil {
		return errors.New("process property must not be empty")
	}
	return checkProcess(v.spec.Process)
}

// ValidateProcess does for the process of an exec what Validate does for a
// container's first.
func ValidateProcess(proc *specs.Process) error {
	if err := checkProcess(proc); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	return nil
}

func checkProcess(p *specs.Process) error {
	switch {
	case p.Cwd == "":
		return errors.New("process.cwd: Cwd property must not be empty")
	case !path.IsAbs(p.Cwd):
		return fmt.Errorf("process.cwd: Cwd must be an absolute path, and %q is not", p.Cwd)
	case hasNUL(p.Cwd):
		return errors.New("process.cwd: contains a null byte")
	case p.CommandLine != "":
		return errors.New("process.commandLine: is for Windows; use process.args")
	case len(p.Args) == 0:
		return errors.New("process.args: args must not be empty")
	case p.Args[0] == "":
		return errors.New("process.args[0]: names no program")
	case p.SelinuxLabel != "":
		return fmt.Errorf("process.selinuxLabel: selinux label is specified in config, but selinux is disabled or not supported: %s", noSELinux)
	case p.User.Umask != nil && *p.User.Umask > 0o777:
		return fmt.Errorf("process.user.umask: %#o is not from 0 to 0777", *p.User.Umask)
	case p.ConsoleSize != nil && (p.ConsoleSize.Height > 0xffff || p.ConsoleSize.Width > 0xffff):
		return fmt.Errorf("process.consoleSize: %dx%d is more than a terminal can have, 65535", p.ConsoleSize.Width, p.ConsoleSize.Height)
	case p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000):
		return fmt.Errorf("process.oomScoreAdj: %d is not from -1000 to 1000", *p.OOMScoreAdj)
	}
	for i, arg := range p.Args {
		if hasNUL(arg) {
			return fmt.Errorf("process.args[%d]: contains a null byte", i)
		}
	}
	for i, kv := range p.Env {
		switch at := strings.IndexByte(kv, '='); {
		case hasNUL(kv):
			return fmt.Errorf("process.env[%d]: invalid environment variable: contains a null byte", i)
		case at < 0:
			return fmt.Errorf("process.env[%d]: invalid environment variable: missing '=' in %q", i, kv)
		case at == 0:
			return fmt.Errorf("process.env[%d]: invalid environment variable: name cannot be empty in %q", i, kv)
		}
	}
	return errors.Join(checkRlimits(p.Rlimits), checkProcessAttributes(p))
}

func checkRlimits(list []specs.POSIXRlimit) error {
	for i, l := range list {
		if _, ok := rlimit(l.Type); !ok {
			return fmt.Errorf("process.rlimits[%d].type: unknown limit %q", i, l.Type)
		}
		if slices.ContainsFunc(list[:i], func(o specs.POSIXRlimit) bool { return o.Type == l.Type }) {
			return fmt.Errorf("process.rlimits[%d].type: %s is there twice", i, l.Type)
		}
		if l.Soft > l.Hard {
			return fmt.Errorf("process.rlimits[%d]: %s: the soft limit %d is above the hard limit %d", i, l.Type, l.Soft, l.Hard)
		}
	}
	return nil
}

func checkProcessAttributes(p *specs.Process) error {
	if p.Scheduler != nil {
		if _, err := schedAttr(p.Scheduler); err != nil {
			return err
		}
	}
	if p.IOPriority != nil {
		if _, err := ioPrio(p.IOPriority); err != nil {
			return err
		}
	}
	if a := p.ExecCPUAffinity; a != nil {
		for _, f := range []struct{ field, list string }{{"initial", a.Initial}, {"final", a.Final}} {
			if _, err := numberSet(f.list); err != nil {
				return fmt.Errorf("process.execCPUAffinity.%s: %w", f.field, err)
			}
		}
	}
	return nil
}

// attributes are those of linux that its processes have.
func (v *validator) attributes() error {
	if p := v.linux.Personality; p != nil {
		if _, err := personalityDomain(p.Domain); err != nil {
			return err
		}
	}
	if m := v.linux.MemoryPolicy; m != nil {
		if _, _, err := memoryPolicyArgs(m); err != nil {
			return err
		}
	}
	if v.linux.MountLabel != "" {
		return fmt.Errorf("linux.mountLabel: %s", noSELinux)
	}
	if _, err := rootPropagation(v.linux.RootfsPropagation); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "spec: "))
	}
	return nil
}

func (v *validator) annotations() error {
	if _, ok := v.spec.Annotations[""]; ok {
		return errors.New("annotations: a key is empty")
	}
	return nil
}

func (v *validator) hooks() error {
	h := v.spec.Hooks
	if h == nil {
		return nil
	}
	for _, kind := range []struct {
		name string
		list []specs.Hook
	}{{"prestart", h.Prestart}, {"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer}, //nolint:staticcheck // engines use prestart
		{"startContainer", h.StartContainer}, {"poststart", h.Poststart}, {"poststop", h.Poststop}} {
		for i, hook := range kind.list {
			switch {
			case !path.IsAbs(hook.Path):
				return fmt.Errorf("hooks.%s[%d].path: %q is not an absolute path", kind.name, i, hook.Path)
			case hook.Timeout != nil && *hook.Timeout <= 0:
				return fmt.Errorf("hooks.%s[%d].timeout: %d is not greater than zero", kind.name, i, *hook.Timeout)
			}
		}
	}
	return nil
}

func (v *validator) namespaces() error {
	for i, ns := range v.linux.Namespaces {
		if _, ok := cloneFlag(ns.Type); !ok {
			return fmt.Errorf("linux.namespaces[%d].type: namespace %q does not exist", i, ns.Type)
		}
		if slices.ContainsFunc(v.linux.Namespaces[:i], func(o specs.LinuxNamespace) bool { return o.Type == ns.Type }) {
			return fmt.Errorf("linux.namespaces[%d].type: duplicated ns %q", i, ns.Type)
		}
		if ns.Path != "" && !path.IsAbs(ns.Path) {
			return fmt.Errorf("linux.namespaces[%d].path: %q is not an absolute path", i, ns.Path)
		}
		name := map[specs.LinuxNamespaceType]string{specs.UserNamespace: "user", specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time"}[ns.Type]
		if _, err := os.Lstat("/proc/self/ns/" + name); name != "" && errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("linux.namespaces[%d]: %s namespaces aren't enabled in the kernel", i, ns.Type)
		}
	}
	return nil
}

func (v *validator) userNamespace() error {
	ns := v.namespace(specs.UserNamespace)
	mapped := v.linux.UIDMappings != nil || v.linux.GIDMappings != nil
	switch {
	case ns == nil && mapped:
		return errors.New("linux.uidMappings: user namespace mappings specified, but user namespace isn't enabled in the config: add it to linux.namespaces")
	case ns == nil:
		return nil
	case ns.Path == "" && !mapped:
		return errors.New("linux.namespaces: user namespaces enabled, but no namespace path to join nor mappings to apply specified")
	case ns.Path == "":
		return checkMappings("linux.", v.linux.UIDMappings, v.linux.GIDMappings)
	case !mapped:
		return nil
	}
	// Some engines write both the path and the mappings of that namespace.
	uids, gids, err := mapsOf(ns.Path)
	if err != nil {
		return fmt.Errorf("linux.namespaces: read the mappings of the user namespace %s: %w", ns.Path, err)
	}
	if !sameMaps(uids, v.linux.UIDMappings) || !sameMaps(gids, v.linux.GIDMappings) {
		return errors.New("linux.uidMappings: user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one")
	}
	return nil
}

func checkMappings(field string, uids, gids []specs.LinuxIDMapping) error {
	for _, m := range []struct {
		name string
		list []specs.LinuxIDMapping
	}{{"uidMappings", uids}, {"gidMappings", gids}} {
		if len(m.list) == 0 {
			return fmt.Errorf("%s%s: there must be both uidMappings and gidMappings", field, m.name)
		}
		for i, id := range m.list {
			const last = 1<<32 - 1
			if id.Size == 0 || uint64(id.ContainerID)+uint64(id.Size) > last || uint64(id.HostID)+uint64(id.Size) > last {
				return fmt.Errorf("%s%s[%d]: %d IDs from %d on the host and %d in the container are not a range", field, m.name, i, id.Size, id.HostID, id.ContainerID)
			}
		}
	}
	return nil
}

func (v *validator) timeNamespace() error {
	ns := v.namespace(specs.TimeNamespace)
	switch {
	case v.linux.TimeOffsets == nil:
		return nil
	case ns == nil:
		return errors.New("linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config: add it to linux.namespaces")
	case ns.Path != "":
		return errors.New("linux.timeOffsets: time namespace enabled, but both namespace path and time offsets specified -- you may only provide one")
	}
	for clock, o := range v.linux.TimeOffsets {
		switch {
		case clock != "monotonic" && clock != "boottime":
			return fmt.Errorf("linux.timeOffsets: unknown clock %q; it is monotonic or boottime", clock)
		case o.Nanosecs >= 1e9:
			return fmt.Errorf("linux.timeOffsets.%s.nanosecs: %d is a second or more", clock, o.Nanosecs)
		}
	}
	return nil
}

func (v *validator) names() error {
	const longest = 64 // __NEW_UTS_LEN, uname(2)
	for _, n := range []struct{ field, value string }{{"hostname", v.spec.Hostname}, {"domainname", v.spec.Domainname}} {
		switch {
		case n.value == "":
		case !v.has(specs.UTSNamespace):
			return fmt.Errorf("%s: unable to set %s without a private UTS namespace", n.field, n.field)
		case len(n.value) > longest || hasNUL(n.value):
			return fmt.Errorf("%s: %q is not a name of up to %d bytes", n.field, n.value, longest)
		}
	}
	return nil
}

func (v *validator) paths() error {
	if len(v.linux.MaskedPaths)+len(v.linux.ReadonlyPaths) > 0 && !v.has(specs.MountNamespace) {
		return errors.New("linux.maskedPaths, readonlyPaths: unable to restrict sys entries without a private MNT namespace")
	}
	for _, f := range []struct {
		name string
		list []string
	}{{"maskedPaths", v.linux.MaskedPaths}, {"readonlyPaths", v.linux.ReadonlyPaths}} {
		for i, p := range f.list {
			if !path.IsAbs(p) || hasNUL(p) {
				return fmt.Errorf("linux.%s[%d]: %q is not an absolute path", f.name, i, p)
			}
		}
	}
	return nil
}

func (v *validator) mounts() error {
	for i, m := range v.spec.Mounts {
		if err := v.mount(m); err != nil {
			return fmt.Errorf("mounts[%d]: invalid mount of %s on %s: %w", i, orElse(m.Source, m.Type), m.Destination, err)
		}
		if m.Destination != "" && !path.IsAbs(m.Destination) {
			v.warn("mounts[%d].destination: relative destination path is **deprecated**, using %s as relative to /", i, m.Destination)
		}
	}
	return nil
}

func (v *validator) mount(m specs.Mount) error {
	o := parseMountOptions(m.Options)
	switch {
	case hasNUL(m.Source + m.Destination + m.Type + strings.Join(m.Options, "")):
		return errors.New("mount field contains null byte")
	case m.Destination == "":
		return errors.New("destination: is required")
	case isBind(m, &o):
		if m.Source == "" && !o.remount {
			return errors.New("source: a bind mount needs one")
		}
		if len(o.data) > 0 {
			return fmt.Errorf("options: bind mounts cannot have any filesystem-specific options applied: %s", strings.Join(o.data, ","))
		}
	case wantsIDMap(m, &o):
		return errors.New("options: id-mapped mounts are only supported for bind-mounts")
	case m.Type == "" && !o.remount:
		return errors.New("type: is required for all but bind mounts")
	}
	if o.copyUp && m.Type != "tmpfs" {
		return errors.New("options: tmpcopyup is for a tmpfs")
	}
	if !wantsIDMap(m, &o) {
		return nil
	}
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		return checkMappings("", m.UIDMappings, m.GIDMappings)
	}
	if !v.has(specs.UserNamespace) {
		return errors.New("options: idmap needs uidMappings and gidMappings, of the mount or of the container's user namespace: id-mapped mounts must have both uid and gid mappings specified")
	}
	return nil
}

func (v *validator) devices() error {
	for i, d := range v.linux.Devices {
		if _, err := deviceKind(d.Type); err != nil {
			return fmt.Errorf("linux.devices[%d]: invalid device type: %w", i, err)
		}
		if d.Path == "" || hasNUL(d.Path) {
			return fmt.Errorf("linux.devices[%d].path: %q is not a path", i, d.Path)
		}
	}
	return nil
}

// netDevices: names as the kernel takes them, net/core/dev.c dev_valid_name.
func (v *validator) netDevices() error {
	if len(v.linux.NetDevices) == 0 {
		return nil
	}
	if !v.has(specs.NetworkNamespace) {
		return errors.New("linux.netDevices: unable to move network devices without a NET namespace")
	}
	seen := map[string]string{}
	for _, name := range sortedKeys(v.linux.NetDevices) {
		to := orElse(v.linux.NetDevices[name].Name, name)
		for _, n := range []string{name, to} {
			if n == "" || len(n) >= unix.IFNAMSIZ || n == "." || n == ".." || strings.ContainsAny(n, "/: \t\n\v\f\r\x00") {
				return fmt.Errorf("linux.netDevices: invalid network device name %q", n)
			}
		}
		if other, ok := seen[to]; ok {
			return fmt.Errorf("linux.netDevices: %s and %s would both be named %s", other, name, to)
		}
		seen[to] = name
	}
	return nil
}

func (v *validator) intelRdt() error {
	r := v.linux.IntelRdt
	if r == nil {
		return nil
	}
	if c := r.ClosID; c == "." || c == ".." || len(c) > 1 && strings.Contains(c, "/") || hasNUL(c) {
		return fmt.Errorf("linux.intelRdt.closID: invalid intelRdt.ClosID %q", c)
	}
	for _, f := range []struct{ name, prefix, value string }{{"l3CacheSchema", "L3", r.L3CacheSchema}, {"memBwSchema", "MB:", r.MemBwSchema}} {
		if f.value != "" && (!strings.HasPrefix(f.value, f.prefix) || strings.Contains(f.value, "\n")) {
			return fmt.Errorf("linux.intelRdt.%s: %q does not start with %s, or has more than one line", f.name, f.value, f.prefix)
		}
	}
	for i, s := range r.Schemata {
		if strings.Contains(s, "\n") {
			return fmt.Errorf("linux.intelRdt.schemata[%d]: has more than one line", i)
		}
	}
	return nil
}
