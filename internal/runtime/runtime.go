// Package runtime turns an OCI runtime-spec into a process: it plans, as a
// program for package inside, everything between the clone and the execve
// (namespaces, mounts, devices, limits, identity, capabilities, filter).
//
// It owns the order of these steps and the rules that make each of them safe:
// no path inside the rootfs is followed through a magic link or out of the
// root, /proc is written only through the mount that the program itself made,
// and the filter is the last system call before execve. It does not know
// images, container names, state on disk, or who will run the program.
package runtime

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// Filter is a compiled seccomp program for the native entry of the kernel.
type Filter struct {
	Flags   uint              // SECCOMP_FILTER_FLAG_*, seccomp(2)
	Program []unix.SockFilter // at most 4096 instructions
	// Listener asks for the filter's notification descriptor: the child holds
	// at StageListener until the parent has taken it.
	Listener bool
}

// Config is everything that a plan is made of.
type Config struct {
	Spec *specs.Spec
	// Root is a mount of the root file system: detached (open_tree, fsmount)
	// for a new container. Plan reads it to resolve dangling links.
	Root *os.File
	// MountPoint is an empty directory of the host over which the new mount
	// namespace mounts Root before it pivots there.
	MountPoint string
	// Filter is loaded last; nil means that no filter was asked for.
	Filter *Filter
	// WritablePaths below /proc/sys stay writable when /proc/sys is made
	// read-only: /proc/sys/net for a container that may administer its network.
	WritablePaths []string
	// Trees are detached mounts to use for the bind mounts of these sources,
	// which the container's start cannot open by path.
	Trees map[string]*os.File
	// Cgroups are the container's directories, for the mount of
	// /sys/fs/cgroup.
	Cgroups CgroupLayout
	// OwnStreams says which of the standard streams are pipes or a terminal
	// that Brig made, so that they may be given to the container's user. Never
	// a file of the host, such as /dev/null.
	OwnStreams [3]bool
	// Terminal is the master side of the container's terminal, with the devpts
	// mount that it belongs to; nil without one. In a user namespace both are
	// made inside, Terminal is empty, and the child asks inside.AskTerminal.
	Terminal *Terminal

	// Placed makes the child ask inside.AskCgroup first of all, instead of
	// joining its cgroups itself.
	Placed bool
	// Setup makes the child ask inside.AskSetup when it is in its namespaces and
	// nothing is mounted yet.
	Setup bool
	// Hooks makes the child ask inside.AskHooks after the mounts and before it
	// changes its root: until then all is mounted below MountPoint.
	Hooks bool
	// Ready makes the child ask inside.AskReady before the user's program.
	Ready bool
	// Gate is a listening socket: the child hangs up on its parent and waits
	// there for a connection before it executes the user's program.
	Gate *os.File
	// KeepFiles is how many descriptors from 3 on the program inherits.
	KeepFiles int
	// NoPivot moves the root over the old one instead of exchanging them, for a
	// root in memory, which the kernel does not let go.
	NoPivot bool
	// ResetAffinity lets the program run on all CPUs of its cgroup, also if the
	// caller may not.
	ResetAffinity bool
	// NoKeyring leaves the program the caller's session keyring.
	NoKeyring bool
	// Bundle is the directory that relative bind sources start from.
	Bundle string
}

// Stages that a start publishes, inside.Program.Progress.
const (
	StageStarted  = 1 // past the gate
	StageListener = 2 // the filter is loaded and its listener's number is in ListenerReg; the child holds
)

// Plan is a start, ready to be performed by a monitor.
type Plan struct {
	Program []byte       // for inside.Map
	Tags    []string     // what each step was doing, for errors
	Files   []PassedFile // descriptors that the program's registers expect
	Flags   uintptr      // CLONE_NEW* flags
	PIDNS   *os.File     // PID namespace to join, or nil
	Forks   bool         // for inside.Clone

	ListenerReg uint8 // at StageListener
	TerminalReg uint8 // at inside.AskTerminal
	// Warnings are one-line texts for the user: what the spec asks for and this
	// machine cannot give, where other runtimes go on, too.
	Warnings []string

	execTag uint32
	findTag uint32 // of the step that looks for the program, or 0
}

// PassedFile is a descriptor and the register that must hold its number.
type PassedFile struct {
	Reg  uint8
	File *os.File
}

// StartError says which step of a start failed and why.
type StartError struct {
	What  string        // "mount proc on /proc"
	Errno syscall.Errno // the kernel's answer
	Exec  bool          // the failing step was the execve of the user's program
}

func (e *StartError) Error() string {
	switch {
	case e.Exec && e.Errno == syscall.ENOENT && !strings.Contains(e.What, "/"):
		return e.What + ": executable file not found in $PATH"
	case e.Exec && e.Errno == syscall.ENOEXEC:
		return e.What + ": exec format error (a script without #!, or built for another architecture)"
	}
	return e.What + ": " + e.Errno.Error()
}

func (e *StartError) Unwrap() error { return e.Errno }

// Failure makes the error of a plan's failed step.
func (p *Plan) Failure(tag uint32, errno syscall.Errno) error {
	what := "start"
	if int(tag) < len(p.Tags) {
		what = p.Tags[tag]
	}
	return &StartError{What: what, Errno: errno, Exec: tag >= p.execTag || p.findTag != 0 && tag == p.findTag}
}

// ExecTag is the index of the first tag that stands for the execve itself.
func (p *Plan) ExecTag() uint32 { return p.execTag }

// Close closes the files that the plan holds open.
func (p *Plan) Close() {
	for _, f := range p.Files {
		f.File.Close()
	}
	if p.PIDNS != nil {
		p.PIDNS.Close()
	}
}

// planner is a plan in the making.
type planner struct {
	*inside.Builder
	cfg   *Config
	spec  *specs.Spec
	plan  *Plan
	files []PassedFile

	root    uint8 // O_PATH descriptor of the new root
	proc    uint8 // mount of the container's own /proc
	hasProc bool
	cgroups []uint8 // clones of the cgroup directories, without a cgroup namespace
	tmp     uint8   // scratch descriptors
	tmp2    uint8
	old     uint8  // the host's root
	program string // to execute, if not what the arguments name
	mapped  bool   // the child is in another user namespace than the caller
	gateReg uint8  // Config.Gate, from streams on
	how     map[how]inside.Arg

	run      *specs.Process // what to execute, with all of its environment
	linux    *specs.Linux   // the container's, or nil
	inUserns bool           // the spec names a user namespace

	view   *view               // the container's tree, while its mounts are planned
	idmaps map[string]*os.File // user namespaces of idmapped mounts, by their maps
	later  []io.Closer         // closed when the start is planned
}

// New plans the start of a new container.
func New(cfg Config) (*Plan, error) {
	p := newPlanner(&cfg, cfg.Spec)
	if err := p.container(); err != nil {
		p.plan.Files = p.files
		p.plan.Close()
		return nil, err
	}
	return p.finish(), nil
}

func newPlanner(cfg *Config, spec *specs.Spec) *planner {
	p := &planner{Builder: inside.NewBuilder(), cfg: cfg, spec: spec, plan: &Plan{}, how: map[how]inside.Arg{}}
	p.root, p.proc, p.tmp, p.tmp2, p.old = p.NewReg(), p.NewReg(), p.NewReg(), p.NewReg(), p.NewReg()
	return p
}

func (p *planner) finish() *Plan {
	p.plan.Program, p.plan.Tags, p.plan.Files = p.Assemble(), p.Tags, p.files
	return p.plan
}

// pass sends a descriptor along and returns the register that holds it.
func (p *planner) pass(f *os.File) uint8 {
	r := p.NewReg()
	p.files = append(p.files, PassedFile{r, f})
	return r
}

func (p *planner) warn(format string, args ...any) {
	p.plan.Warnings = append(p.plan.Warnings, fmt.Sprintf(format, args...))
}

// closeLater keeps a file until the start is planned.
func (p *planner) closeLater(f io.Closer) { p.later = append(p.later, f) }

func (p *planner) closeAll() {
	if p.view != nil {
		p.view.close()
	}
	for _, f := range p.later {
		f.Close()
	}
}

func (p *planner) container() error {
	if p.spec.Process == nil || p.spec.Linux == nil {
		return fmt.Errorf("spec: process and linux must be set")
	}
	p.prologue()
	if p.cfg.Placed {
		p.What("wait to be put in the cgroup")
		p.Ask(inside.AskCgroup)
	} else {
		p.joinCgroups(p.cfg.Cgroups)
	}
	if p.cfg.ResetAffinity {
		p.allCPUs()
	}
	p.linux, p.inUserns = p.spec.Linux, InUserNamespace(p.spec)
	if err := p.asCaller(p.spec.Process); err != nil {
		return err
	}
	if err := p.namespaces(); err != nil {
		return err
	}
	if p.cfg.Setup {
		p.What("wait for what is done from outside")
		p.Ask(inside.AskSetup)
	}
	p.cgroupNamespace()
	p.names()
	p.loopback()
	if err := p.rootfs(); err != nil {
		return err
	}
	if len(p.spec.Linux.Sysctl) > 0 && !p.hasProc {
		return fmt.Errorf("spec: linux.sysctl: needs a mount of type proc on /proc")
	}
	return p.process(p.run)
}

// prologue makes the child die with its parent, invisible to the processes of
// namespaces that it is about to join (CVE-2016-9962), and leader of a session.
func (p *planner) prologue() {
	p.What("prepare the container's first process")
	p.leader()
	p.Call(unix.SYS_UMASK, inside.V(0))
}

// leader does what a fork or a change of IDs undoes.
func (p *planner) leader() {
	p.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_PDEATHSIG), inside.V(int(unix.SIGKILL)), inside.V(0), inside.V(0), inside.V(0))
	p.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_DUMPABLE), inside.V(0), inside.V(0), inside.V(0), inside.V(0))
	p.Call(unix.SYS_SETSID).On(uint16(unix.EPERM), 0) // is one already
}

// names sets host and domain name in the container's own UTS namespace.
func (p *planner) names() {
	for _, n := range []struct {
		what, name string
		call       int
	}{{"set hostname ", p.spec.Hostname, unix.SYS_SETHOSTNAME}, {"set domain name ", p.spec.Domainname, unix.SYS_SETDOMAINNAME}} {
		if n.name != "" {
			p.What(n.what + n.name)
			p.Call(n.call, p.Str(n.name), inside.V(len(n.name)))
		}
	}
}

// loopback sets the interface lo up in a network namespace of the container's
// own; a new one starts with it down.
func (p *planner) loopback() {
	if !p.has(specs.NetworkNamespace) {
		return
	}
	p.What("set the loopback interface up")
	p.Call(unix.SYS_SOCKET, inside.V(unix.AF_INET), inside.V(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), inside.V(0)).To(p.tmp)
	var ifreq [40]byte // struct ifreq, netdevice(7): 16 bytes of name, then the flags
	copy(ifreq[:], "lo")
	ifreq[16] = unix.IFF_UP
	p.Call(unix.SYS_IOCTL, inside.R(p.tmp), inside.V(unix.SIOCSIFFLAGS), p.Bytes(ifreq[:]))
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
}
