package spec

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/brig-run/brig/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultPath is the PATH of a container whose image sets none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// InitTarget is where the init program of --init stands in the container.
const InitTarget = "/sbin/brig-init"

// ErrNoCommand says that neither the image nor the user names a program.
var ErrNoCommand = errors.New("no command specified")

// Input is what [Build] makes a spec from.
type Input struct {
	Options *Options
	Image   *ImageConfig
	ID      string // the container's, 64 hexadecimal digits
	Host    *Host

	// RootPath is the path of the mounted root, for the spec.
	RootPath string
	// Root is a directory handle (O_PATH will do) of the same root, for the
	// users and groups in it. Nil is a root without passwd and group files.
	Root *os.File

	// CgroupsPath goes into the spec as it is.
	CgroupsPath string
	// HostsPath, HostnamePath and ResolvConfPath are files on the host that
	// appear in /etc of the container; "" leaves the image's.
	HostsPath, HostnamePath, ResolvConfPath string
	// VolumeSources are, for each mount of a volume by its target, where the
	// volume is: a path of the host, or a name that the runtime knows.
	VolumeSources map[string]string
	// InitPath is the host's path of the program for Options.Init.
	InitPath string

	// PIDPath and IPCPath are the namespaces (/proc/PID/ns/...) of the
	// containers that Options.PID and Options.IPC name; NetworkPath is a
	// ready-made network namespace or a container's, "" for a new one.
	PIDPath, IPCPath, NetworkPath string
	// SharedHostname is the host name of the container whose network is shared.
	SharedHostname string
	// UserPath is the ready-made user namespace of a container with one of its
	// own (Options.UserNS), whose maps are those of the options.
	UserPath string
	// ShmPath is a tmpfs on the host that becomes /dev/shm: needed to join a
	// container's IPC namespace, possible for a shareable one.
	ShmPath string
}

// Result is a container, ready for a runtime.
type Result struct {
	// Spec has no seccomp section: see Seccomp.
	Spec *specs.Spec
	// Seccomp is the wanted profile; its mode is never SeccompDefault.
	Seccomp         Seccomp
	NoNewPrivileges bool
	// Capabilities is the bounding set. A profile's rules depend on it.
	Capabilities capability.Set
	// WritablePaths lie below the spec's read-only paths and stay writable.
	// It is /proc/sys/net for a container with its own network namespace and
	// NET_ADMIN, and else empty.
	WritablePaths []string
	Hostname      string
	// StopSignal is Options's, the image's, or SIGTERM.
	StopSignal syscall.Signal
	// Labels are the image's and the user's.
	Labels map[string]string
	// Warnings are one-line texts for the user: what could not be done as
	// asked, where Docker goes on too.
	Warnings []string
}

// builder holds one Build under way.
type builder struct {
	Input
	o    *Options
	img  *ImageConfig
	host *Host
	res  *Result
	spec *specs.Spec
}

// Build makes the spec. It fails on bad wishes, on users that the image does
// not know, and on devices that the host does not have.
func Build(in Input) (*Result, error) {
	b, err := newBuilder(in)
	if err != nil {
		return nil, err
	}
	if err := b.o.Validate(); err != nil {
		return nil, err
	}
	steps := [...]func() error{
		b.namespaces, b.hostname, b.process, b.capabilities, b.security,
		b.rlimits, b.resources, b.devices, b.sysctls, b.mounts, b.finish,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b.res, nil
}

func newBuilder(in Input) (*builder, error) {
	if in.Options == nil || in.Host == nil {
		return nil, errors.New("spec: options and host facts are needed")
	}
	if in.Image == nil {
		in.Image = &ImageConfig{}
	}
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: in.RootPath, Readonly: in.Options.ReadOnly},
		Process: &specs.Process{},
		Linux:   &specs.Linux{CgroupsPath: in.CgroupsPath, Resources: &specs.LinuxResources{}},
	}
	return &builder{Input: in, o: in.Options, img: in.Image, host: in.Host, spec: s, res: &Result{Spec: s}}, nil
}

func (b *builder) warn(format string, args ...any) {
	b.res.Warnings = append(b.res.Warnings, fmt.Sprintf(format, args...))
}

// namespaces lists the namespaces to make or join; one left out is the host's.
func (b *builder) namespaces() error {
	if (len(b.o.Publish) > 0 || b.o.PublishAll) && !b.o.Network.Publishes() {
		b.warn("published ports are discarded with --network %s", b.o.Network)
	}
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if b.o.Network.Own() {
		if c := b.o.Network.Container(); c != "" && b.NetworkPath == "" {
			return fmt.Errorf("--network %q: that container is not running; start it first: brig start %s", b.o.Network, c)
		}
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: b.NetworkPath})
	}
	if !b.o.UTS.Host() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if !b.o.PID.Host() {
		if b.o.PID.Container() != "" && b.PIDPath == "" {
			return fmt.Errorf("--pid %q: that container is not running; start it first", b.o.PID)
		}
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: b.PIDPath})
	}
	if !b.o.IPC.Host() {
		if b.o.IPC.Container() != "" && (b.IPCPath == "" || b.ShmPath == "") {
			return fmt.Errorf("--ipc %q: that container is not running; start it first", b.o.IPC)
		}
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: b.IPCPath})
	}
	if !b.o.Cgroupns.Host() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if b.o.UserNS.Own() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UserNamespace, Path: b.UserPath})
	}
	b.spec.Linux.Namespaces = ns
	return nil
}

// hostname: the user's, or the host's where the container shares the host's
// network or UTS namespace, or the short ID.
func (b *builder) hostname() error {
	name := b.o.Hostname
	switch {
	case name != "":
	case b.o.Network.Container() != "" && !b.o.UTS.Host():
		name = b.SharedHostname
	case b.o.UTS.Host() || !b.o.Network.Own():
		name = b.host.Hostname
	default:
		name = b.ID[:min(12, len(b.ID))]
	}
	b.res.Hostname = name
	if !b.o.UTS.Host() {
		b.spec.Hostname = name
		b.spec.Domainname = b.o.Domainname
	}
	return nil
}

// process fills in what runs and as whom.
func (b *builder) process() error {
	p := b.spec.Process
	args, err := b.args()
	if err != nil {
		return err
	}
	p.Args = args
	p.Terminal = b.o.TTY
	if p.Cwd, err = b.cwd(b.o.Workdir); err != nil {
		return err
	}
	var home string
	if p.User, home, err = lookupUser(b.Root, b.userSpec(b.o.User), b.o.GroupAdd); err != nil {
		return err
	}
	if p.Env = b.env(b.o.TTY, nil, home); b.o.Init && !b.hasInit() {
		b.warn("--init does nothing with --pid %s: that namespace has an init", b.o.PID)
	}
	score := b.o.OOMScoreAdj
	p.OOMScoreAdj = &score
	return noNUL("variable", p.Env)
}

func (b *builder) userSpec(user string) string {
	if user == "" {
		return b.img.User
	}
	return user
}

// Command is what a container runs: entrypoint and command. A user's entrypoint drops
// the image's command as well, because it was written for the image's entrypoint.
func Command(o *Options, img *ImageConfig) []string {
	entry, cmd := img.Entrypoint, img.Cmd
	if o.Entrypoint != nil {
		entry, cmd = nil, nil
		if *o.Entrypoint != "" {
			entry = []string{*o.Entrypoint}
		}
	}
	if len(o.Args) > 0 {
		cmd = o.Args
	}
	if len(entry) == 1 && entry[0] == "" {
		entry = nil
	}
	return slices.Concat(entry, cmd)
}

func (b *builder) args() ([]string, error) {
	command := Command(b.o, b.img)
	if len(command) == 0 {
		return nil, ErrNoCommand
	}
	var args []string
	if b.hasInit() {
		args = append(args, InitTarget, "--")
	}
	args = append(args, command...)
	return args, noNUL("argument", args)
}

// noNUL refuses strings that execve(2) would cut short. An image's JSON can hold
// them, a command line cannot.
func noNUL(what string, words []string) error {
	for _, w := range words {
		if strings.ContainsRune(w, 0) {
			return fmt.Errorf("%s %q holds a NUL byte", what, w)
		}
	}
	return nil
}

// hasInit: in another's PID namespace there is an init already.
func (b *builder) hasInit() bool { return b.o.Init && b.o.PID == "" }

func (b *builder) cwd(want string) (string, error) {
	if want == "" {
		want = b.img.WorkingDir
	}
	if want == "" {
		return "/", nil
	}
	if want[0] != '/' || strings.ContainsRune(want, 0) {
		return "", fmt.Errorf("the working directory %q is invalid, it needs to be an absolute path", want)
	}
	return filepath.Clean(want), nil
}

// env gives PATH, HOSTNAME and TERM, then the image's variables, then the
// user's, then extra, each over the ones before, and HOME if nobody set it.
func (b *builder) env(tty bool, extra []string, home string) []string {
	env := make([]string, 0, 4+len(b.img.Env)+len(b.o.Env)+len(extra))
	env = append(env, "PATH="+DefaultPath, "HOSTNAME="+b.res.Hostname)
	if tty {
		env = append(env, "TERM=xterm")
	}
	env = mergeEnv(env, b.img.Env)
	env = mergeEnv(env, b.o.Env)
	env = mergeEnv(env, extra)
	if indexEnv(env, "HOME") < 0 {
		if home == "" {
			home = "/"
		}
		env = append(env, "HOME="+home)
	}
	return env
}

// capabilities: bounding = permitted = effective for root. For another user
// the kernel drops permitted and effective at exec, whatever they were
// (capabilities(7), Transformation of capabilities during execve), so the spec
// says the same, but for those that CapAmbient keeps.
func (b *builder) capabilities() error {
	base := capability.Default()
	if b.o.Privileged {
		base = b.host.Capabilities // less what is dropped, where Docker forgets the drop
	}
	set, err := capability.Resolve(base, b.o.CapAdd, b.o.CapDrop)
	if err != nil {
		return fmt.Errorf("resolve --cap-add and --cap-drop: %w", err)
	}
	if missing := set.Minus(b.host.Capabilities); !missing.Empty() {
		b.warn("this host cannot grant %s; going on without", strings.Join(missing.Names(), ", "))
		set = set.Intersect(b.host.Capabilities)
	}
	b.res.Capabilities = set
	b.spec.Process.Capabilities, err = b.capabilitySets(set, b.spec.Process.User.UID)
	return err
}

// capabilitySets spreads the bounding set over the kernel's five for a user.
func (b *builder) capabilitySets(bounding capability.Set, uid uint32) (*specs.LinuxCapabilities, error) {
	c := &specs.LinuxCapabilities{Bounding: bounding.Names()}
	if uid == 0 {
		c.Permitted, c.Effective = c.Bounding, c.Bounding
		return c, nil
	}
	if !b.o.CapAmbient {
		return c, nil
	}
	asked, err := capability.Resolve(0, b.o.CapAdd, nil)
	if err != nil {
		return nil, fmt.Errorf("--cap-add: %w", err)
	}
	names := asked.Intersect(bounding).Names()
	c.Permitted, c.Effective, c.Inheritable, c.Ambient = names, names, names, names
	return c, nil
}

// security settles no-new-privileges, AppArmor, seccomp and the paths of /proc
// and /sys.
func (b *builder) security() error {
	sec := b.o.Security
	b.spec.Process.NoNewPrivileges = sec.NoNewPrivileges
	b.res.NoNewPrivileges = sec.NoNewPrivileges
	if b.res.Seccomp = sec.Seccomp; sec.Seccomp.Mode == SeccompDefault {
		b.res.Seccomp.Mode = SeccompBuiltin
		if b.o.Privileged {
			b.res.Seccomp.Mode = SeccompUnconfined
		}
	}
	switch {
	case b.host.AppArmor:
		b.spec.Process.ApparmorProfile = sec.AppArmor
	case sec.AppArmor != "" && sec.AppArmor != "unconfined":
		return fmt.Errorf("--security-opt \"apparmor=%s\": this kernel runs without AppArmor, so the profile cannot be applied; leave the option out", sec.AppArmor)
	}
	if b.o.Privileged || sec.SystemPathsUnconfined {
		return nil
	}
	b.spec.Linux.MaskedPaths = append(maskedPaths(), b.host.ThermalThrottle...)
	b.spec.Linux.ReadonlyPaths = readonlyPaths()
	if b.o.Network.Own() && b.res.Capabilities.Has(capability.NET_ADMIN) {
		b.res.WritablePaths = []string{"/proc/sys/net"}
	}
	return nil
}

// maskedPaths tell about, or touch, the machine as a whole.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// sysctls: Docker's two that spare a container capabilities, then the user's.
// Brig sets the two only while the container holds the capability that they
// stand for, so that a dropped capability is really gone.
func (b *builder) sysctls() error {
	m := make(map[string]string, 2+len(b.o.Sysctls))
	if b.o.Network.Own() && b.o.Network.Container() == "" {
		if b.res.Capabilities.Has(capability.NET_RAW) {
			m["net.ipv4.ping_group_range"] = "0 " + strconv.FormatUint(uint64(b.lastGroup()), 10)
		}
		if b.res.Capabilities.Has(capability.NET_BIND_SERVICE) {
			m["net.ipv4.ip_unprivileged_port_start"] = "0"
		}
	}
	maps.Copy(m, b.o.Sysctls)
	if len(m) > 0 {
		b.spec.Linux.Sysctl = m
	}
	return nil
}

// finish fills in what needs no decision.
func (b *builder) finish() error {
	if len(b.o.Annotations) > 0 {
		b.spec.Annotations = maps.Clone(b.o.Annotations)
	}
	b.res.Labels = make(map[string]string, len(b.img.Labels)+len(b.o.Labels))
	maps.Copy(b.res.Labels, b.img.Labels)
	maps.Copy(b.res.Labels, b.o.Labels)
	return b.stopSignal()
}

func (b *builder) stopSignal() error {
	name := b.o.StopSignal
	if name == "" {
		name = b.img.StopSignal
	}
	if name == "" {
		b.res.StopSignal = syscall.SIGTERM
		return nil
	}
	var err error
	b.res.StopSignal, err = ParseStopSignal(name)
	return err
}
