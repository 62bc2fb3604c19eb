package runtime

import (
	"fmt"
	"math/bits"
	"path"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/runtime/inside"
)

// process plans the tail of every start, of a container's first process and of
// an exec alike: from a child that stands in its namespaces with full rights to
// the user's program with exactly its own.
func (p *planner) process(proc *specs.Process) error {
	sets, err := p.capabilities(proc.Capabilities)
	if err != nil {
		return err
	}
	if len(proc.Args) == 0 || proc.Args[0] == "" {
		return fmt.Errorf("spec: process.args: no command given")
	}
	if proc.SelinuxLabel != "" {
		return fmt.Errorf("spec: process.selinuxLabel %q: %s", proc.SelinuxLabel, noSELinux)
	}
	if err := p.attributes(proc, p.linux); err != nil {
		return err
	}
	p.keyring()
	p.streams(proc)
	p.cwd(proc)
	// Now that the descriptors of the start are closed: a low limit of open
	// files holds for it, too.
	if err := p.rlimits(proc); err != nil {
		return err
	}
	p.What("set the umask")
	umask := 0o022
	if proc.User.Umask != nil {
		umask = int(*proc.User.Umask)
	}
	p.Call(unix.SYS_UMASK, inside.V(umask))
	p.identity(proc, sets)
	if p.cfg.Ready {
		p.findProgram(proc)
		p.What("wait to be let go")
		p.Ask(inside.AskReady)
	}
	p.signals()
	p.gate()
	p.filter()
	p.execve(proc)
	return nil
}

// apparmor names the profile that confines the program from its execve on. It
// goes through the host's /proc, before the child leaves it; a profile that is
// not loaded stops the start.
func (p *planner) apparmor(proc *specs.Process) error {
	if proc.ApparmorProfile == "" || proc.ApparmorProfile == "unconfined" {
		return nil
	}
	if !apparmorEnabled() {
		return fmt.Errorf("spec: process.apparmorProfile %q: AppArmor is not enabled on this host", proc.ApparmorProfile)
	}
	v := "exec " + proc.ApparmorProfile
	p.What("set the AppArmor profile " + proc.ApparmorProfile)
	p.Call(unix.SYS_OPENAT, inside.V(atCWD), p.Str("/proc/thread-self/attr/apparmor/exec"), inside.V(unix.O_WRONLY|unix.O_CLOEXEC), inside.V(0)).To(p.tmp)
	p.Call(unix.SYS_WRITE, inside.R(p.tmp), p.Str(v), inside.V(len(v)))
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	return nil
}

// rlimits sets the limits that the spec asks for. The caller has clipped them
// to what can be had, so a refusal is an error.
func (p *planner) rlimits(proc *specs.Process) error {
	for i, l := range proc.Rlimits {
		n, ok := rlimit(l.Type)
		if !ok {
			return fmt.Errorf("spec: process.rlimits[%d]: unknown limit %q", i, l.Type)
		}
		p.What(fmt.Sprintf("set %s to %d:%d", l.Type, l.Soft, l.Hard))
		p.Call(unix.SYS_PRLIMIT64, inside.V(0), inside.V(n), p.Words(l.Soft, l.Hard), inside.V(0))
	}
	return nil
}

// rlimit is the RLIMIT_* number of a name, setrlimit(2).
func rlimit(name string) (int, bool) {
	names := [...]string{"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
		"LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"}
	for i, n := range names {
		if name == "RLIMIT_"+n {
			return i, true
		}
	}
	return 0, false
}

// keyring gives the program a session keyring of its own, so that it cannot
// see the keys of whoever started it. A kernel without keys has none to see.
func (p *planner) keyring() {
	if p.cfg.NoKeyring {
		return
	}
	p.What("make a session keyring")
	p.Call(unix.SYS_KEYCTL, inside.V(unix.KEYCTL_JOIN_SESSION_KEYRING), inside.V(0)).On(uint16(unix.ENOSYS), 0).On(uint16(unix.EDQUOT), 0)
}

// streams puts the standard streams in place and closes everything else but
// what the program inherits, the line to the parent and the gate. From here on
// no descriptor of the host is left (CVE-2024-21626).
func (p *planner) streams(proc *specs.Process) {
	p.What("set up the standard streams")
	keep := 3 + p.cfg.KeepFiles
	// They may have each other's numbers: lift them out of the way first.
	lift := []uint8{inside.RegStdin, inside.RegStdout, inside.RegStderr, inside.RegDone}
	if p.cfg.Gate != nil {
		p.gateReg = p.pass(p.cfg.Gate)
		lift = append(lift, p.gateReg)
	}
	for _, r := range lift {
		p.Call(unix.SYS_FCNTL, inside.R(r), inside.V(unix.F_DUPFD_CLOEXEC), inside.V(keep+7)).To(r)
	}
	for r := uint8(inside.RegStdin); r <= inside.RegStderr; r++ {
		p.Call(unix.SYS_DUP3, inside.R(r), inside.V(int(r)), inside.V(0))
		if proc.User.UID != 0 || p.mapped {
			// So that /dev/stdout can be opened by name; files of the host keep their owner.
			p.ownPipe(int(r), proc)
		}
	}
	for i, r := range lift[3:] {
		p.Call(unix.SYS_DUP3, inside.R(r), inside.V(keep+i), inside.V(unix.O_CLOEXEC)).To(r)
	}
	p.Call(unix.SYS_CLOSE_RANGE, inside.V(keep+len(lift)-3), inside.V(uint32(0xffffffff)), inside.V(0))
	if proc.Terminal {
		p.What("make the terminal the controlling one")
		p.Call(unix.SYS_IOCTL, inside.V(0), inside.V(unix.TIOCSCTTY), inside.V(0))
	}
}

// ownPipe gives stream fd to the user, if the plan says that the stream is
// Brig's own pipe or terminal.
func (p *planner) ownPipe(fd int, proc *specs.Process) {
	if p.cfg.OwnStreams[fd] {
		p.Call(unix.SYS_FCHOWN, inside.V(fd), inside.V(proc.User.UID), inside.V(^uint32(0))).On(inside.AnyErrno, 0)
	}
}

// cwd changes into the working directory while the child may still search all
// directories, and makes sure that it lies inside.
func (p *planner) cwd(proc *specs.Process) {
	dir := path.Clean("/" + proc.Cwd)
	p.What("change to working directory " + dir)
	p.Call(unix.SYS_OPENAT, inside.V(atCWD), p.Str("/"), inside.V(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), inside.V(0)).To(p.root)
	p.open(p.root, dir, openPath|unix.O_DIRECTORY, inRoot, p.tmp)
	p.Call(unix.SYS_FCHDIR, inside.R(p.tmp))
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	p.Call(unix.SYS_CLOSE, inside.R(p.root))
	// getcwd(2) answers "(unreachable)/..." for a directory outside of the root.
	buf := p.Bytes(make([]byte, unix.PathMax))
	p.Call(unix.SYS_GETCWD, buf, inside.V(unix.PathMax))
	p.Pseudo(inside.ExpectByte, buf, inside.V('/'), inside.V(int(unix.EPERM)))
}

// sets are the capability sets to start the user's program with.
type sets struct{ bounding, permitted, effective, inheritable, ambient capability.Set }

const capSysAdmin = 1 << unix.CAP_SYS_ADMIN

// identity becomes the user and gives up everything that the sets do not hold.
//
// A filter can be loaded only with no_new_privs or CAP_SYS_ADMIN. Without
// no_new_privs the child therefore keeps that one capability up to the execve,
// which takes it away: execve computes the permitted set anew from the
// bounding, inheritable and ambient sets alone, capabilities(7). So no system
// call has to come after the filter, and the filter cannot break the start.
func (p *planner) identity(proc *specs.Process, s sets) {
	if proc.NoNewPrivileges {
		p.What("set no_new_privs")
		p.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_NO_NEW_PRIVS), inside.V(1), inside.V(0), inside.V(0), inside.V(0))
	}
	for n := range p.lastCap() + 1 {
		if s.bounding&(1<<n) == 0 {
			p.What("drop " + capability.Cap(n).String() + " from the bounding set")
			p.Call(unix.SYS_PRCTL, inside.V(unix.PR_CAPBSET_DROP), inside.V(n), inside.V(0), inside.V(0), inside.V(0))
		}
	}
	p.What("set the user and its groups")
	gids := le(proc.User.AdditionalGids...)
	p.Call(unix.SYS_SETGROUPS, inside.V(len(proc.User.AdditionalGids)), p.Bytes(append(gids, 0)))
	p.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_KEEPCAPS), inside.V(1), inside.V(0), inside.V(0), inside.V(0))
	gid, uid := inside.V(proc.User.GID), inside.V(proc.User.UID)
	p.Call(unix.SYS_SETRESGID, gid, gid, gid)
	p.Call(unix.SYS_SETRESUID, uid, uid, uid)
	p.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_KEEPCAPS), inside.V(0), inside.V(0), inside.V(0), inside.V(0))

	if p.cfg.Filter != nil && !proc.NoNewPrivileges {
		s.permitted |= capSysAdmin
		s.effective |= capSysAdmin
	}
	p.What("set capabilities")
	hdr := p.Bytes(le(unix.LINUX_CAPABILITY_VERSION_3, 0)) // capset(2)
	p.Call(unix.SYS_CAPSET, hdr, p.Bytes(le(
		uint32(s.effective), uint32(s.permitted), uint32(s.inheritable),
		uint32(s.effective>>32), uint32(s.permitted>>32), uint32(s.inheritable>>32))))
	for set := uint64(s.ambient); set != 0; set &= set - 1 {
		n := bits.TrailingZeros64(set)
		p.What("raise ambient " + capability.Cap(n).String())
		p.Call(unix.SYS_PRCTL, inside.V(unix.PR_CAP_AMBIENT), inside.V(unix.PR_CAP_AMBIENT_RAISE), inside.V(n), inside.V(0), inside.V(0))
	}
}

// lastCap is the highest capability of the running kernel.
func (p *planner) lastCap() int { return 63 - bits.LeadingZeros64(uint64(capability.Kernel())) }

// signals gives every signal its default action and unblocks all: an ignored
// signal would survive execve.
func (p *planner) signals() {
	p.What("reset signals")
	zero := p.Bytes(make([]byte, 32)) // struct kernel_sigaction: SIG_DFL
	for sig := 1; sig <= 64; sig++ {
		if sig != int(unix.SIGKILL) && sig != int(unix.SIGSTOP) {
			p.Call(unix.SYS_RT_SIGACTION, inside.V(sig), zero, inside.V(0), inside.V(8))
		}
	}
	p.Call(unix.SYS_RT_SIGPROCMASK, inside.V(2 /* SIG_SETMASK */), zero, inside.V(0), inside.V(8))
	p.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_PDEATHSIG), inside.V(0), inside.V(0), inside.V(0), inside.V(0))
}

// gate waits for the word to go on, when the parent has gone.
func (p *planner) gate() {
	if p.cfg.Gate == nil {
		return
	}
	p.What("wait to be started")
	p.Call(unix.SYS_CLOSE, inside.R(inside.RegDone))
	// The connection stays open until the execve closes it, which tells the
	// other side of that.
	p.Call(unix.SYS_ACCEPT4, inside.R(p.gateReg), inside.V(0), inside.V(0), inside.V(unix.SOCK_CLOEXEC))
	p.Pseudo(inside.Stage, inside.V(StageStarted))
}

func (p *planner) filter() {
	f := p.cfg.Filter
	if f == nil {
		return
	}
	p.What("load the seccomp filter")
	insns := p.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f.Program))), 8*len(f.Program)))
	prog := p.Words(uint64(len(f.Program)), p.Offset(insns)) // struct sock_fprog
	p.Relocate(prog, 8)
	flags := f.Flags
	if f.Listener {
		flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	load := p.Call(unix.SYS_SECCOMP, inside.V(unix.SECCOMP_SET_MODE_FILTER), inside.V(flags), prog)
	if f.Listener {
		p.plan.ListenerReg = p.NewReg()
		load.To(p.plan.ListenerReg)
		p.Pseudo(inside.Stage, inside.V(StageListener))
		p.What("wait until the seccomp agent has the listener")
		p.Pseudo(inside.Hold, inside.V(0), inside.V(0), inside.V(int(unix.ETIMEDOUT)))
	}
}

// findProgram looks for the user's program as execve will, so that a container
// that waits for its start is one that can start.
func (p *planner) findProgram(proc *specs.Process) {
	p.What(fmt.Sprintf("exec %q", proc.Args[0]))
	p.plan.findTag = uint32(len(p.Tags) - 1)
	name := proc.Args[0]
	if strings.Contains(name, "/") {
		p.Call(unix.SYS_FACCESSAT2, inside.V(atCWD), p.Str(name), inside.V(unix.X_OK), inside.V(unix.AT_EACCESS))
		return
	}
	denied := p.NewReg()
	p.Pseudo(inside.Set, inside.V(0)).To(denied)
	var found []inside.Step
	for _, dir := range pathList(proc.Env) {
		p.Call(unix.SYS_FACCESSAT2, inside.V(atCWD), p.Str(path.Join(dir, name)), inside.V(unix.X_OK), inside.V(unix.AT_EACCESS)).
			On(uint16(unix.ENOENT), 2).On(uint16(unix.ENOTDIR), 2).On(uint16(unix.EACCES), 1)
		found = append(found, p.Pseudo(inside.Jump))
		p.Pseudo(inside.Set, inside.V(1)).To(denied)
	}
	p.Pseudo(inside.FailIf, inside.R(denied), inside.V(1), inside.V(int(unix.EACCES)))
	p.Pseudo(inside.FailIf, inside.V(0), inside.V(0), inside.V(int(unix.ENOENT)))
	p.Land(found...)
}

// execve tries the command as the shell would: a name without a slash in each
// directory of the container's PATH. A directory without the right to search,
// or a file without the right to execute, is remembered but not final, exec(3).
func (p *planner) execve(proc *specs.Process) {
	name := orElse(p.program, proc.Args[0])
	argv, envp := p.Strs(proc.Args), p.Strs(proc.Env)
	if strings.Contains(name, "/") {
		p.What(fmt.Sprintf("exec %q", name))
		p.plan.execTag = uint32(len(p.Tags) - 1)
		p.Call(unix.SYS_EXECVE, p.Str(name), argv, envp)
		return
	}
	p.What(fmt.Sprintf("exec %q", name))
	p.plan.execTag = uint32(len(p.Tags) - 1)
	denied := p.NewReg()
	p.Pseudo(inside.Set, inside.V(0)).To(denied)
	for _, dir := range pathList(proc.Env) {
		p.Call(unix.SYS_EXECVE, p.Str(path.Join(dir, name)), argv, envp).
			On(uint16(unix.ENOENT), 1).On(uint16(unix.ENOTDIR), 1).On(uint16(unix.EACCES), 0)
		p.Pseudo(inside.Set, inside.V(1)).To(denied)
	}
	p.Pseudo(inside.FailIf, inside.R(denied), inside.V(1), inside.V(int(unix.EACCES)))
	p.Pseudo(inside.FailIf, inside.V(0), inside.V(0), inside.V(int(unix.ENOENT)))
}

// pathList is the PATH of an environment; the last of several counts.
func pathList(env []string) []string {
	list := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = v
		}
	}
	if list == "" {
		return []string{"/bin", "/usr/bin"}
	}
	dirs := strings.Split(list, ":")
	for i, d := range dirs {
		if d == "" {
			dirs[i] = "."
		}
	}
	return dirs
}
