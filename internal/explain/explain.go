// Package explain puts what a container was denied into words that a person can
// act on: what was refused, by what, and the flag that would allow it.
//
// It knows recordings, seccomp profiles and capabilities. It neither records nor
// runs anything.
package explain

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Engine is who started the container, and how its user asks for more.
type Engine string

// The engines whose words are known. The zero value is Brig.
const (
	Docker     Engine = "docker"
	Podman     Engine = "podman"
	Kubernetes Engine = "kubernetes"
	Bundle     Engine = "bundle" // a config.json by hand, or by a program that is not known
)

// Context is what the container was held by.
type Context struct {
	Caps capability.Set // that it was given
	// Root: its first process runs as root, so that --cap-add alone gives it a
	// capability.
	Root bool
	// Profile is the seccomp profile, nil if there is none, and ProfileName
	// what to call it.
	Profile     *seccomp.Profile
	ProfileName string
	// Policy is the policy file that the capabilities and the profile are of, or "".
	Policy string
	Kernel seccomp.KernelVersion
	// Engine is whose words the advice is in.
	Engine Engine
}

// Line explains one denial.
type Line struct {
	Syscall string `json:"syscall"`
	ABI     string `json:"abi,omitempty"` // if not the machine's first
	Program string `json:"program"`
	Thread  string `json:"thread,omitempty"` // if not called as the program
	Outcome string `json:"outcome"`          // EPERM, or killed
	// By names what refused it: "seccomp default profile", "CAP_SYS_TIME", or
	// both joined by "and": what would have to give way.
	By  string `json:"by"`
	Fix string `json:"fix"`
	// Harmless: programs are known to cope with it.
	Harmless bool   `json:"harmless,omitempty"`
	Count    uint64 `json:"count"`
}

// String is the line as brig run prints it.
func (l *Line) String() string {
	what := "denied " + l.Outcome
	if l.Outcome == killed {
		what = killed
	}
	abi := ""
	if l.ABI != "" {
		abi = " of " + l.ABI
	}
	times := ""
	if l.Count > 1 {
		times = fmt.Sprintf(", %d times", l.Count)
	}
	return fmt.Sprintf("%s%s: %s in %s%s (%s): %s", l.Syscall, abi, what, InProgram(l.Program, l.Thread), times, l.By, l.Fix)
}

// InProgram names a program, and its thread if that has a name of its own.
func InProgram(program, thread string) string {
	if thread == "" {
		return Printable(program)
	}
	return Printable(program + " (thread " + thread + ")")
}

const killed = "killed"

// Denials explains denials, one line for each distinct one, in the order in
// which they came first. What is harmless comes last.
func Denials(list []record.Denial, c Context) []Line {
	var lines []Line
	for i := range list {
		l := c.line(&list[i])
		same := slices.IndexFunc(lines, func(o Line) bool {
			return o.Syscall == l.Syscall && o.ABI == l.ABI && o.Program == l.Program && o.Outcome == l.Outcome && o.By == l.By && o.Fix == l.Fix
		})
		if same >= 0 {
			lines[same].Count += l.Count
			continue
		}
		lines = append(lines, l)
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return order(a.Harmless) - order(b.Harmless) })
	return lines
}

func order(harmless bool) int {
	if harmless {
		return 1
	}
	return 0
}

func (c *Context) line(d *record.Denial) Line {
	l := Line{Syscall: d.Syscall, Program: Printable(d.Program), Thread: Printable(d.Thread), Outcome: d.Errno, Count: d.Count}
	if d.ABI != nativeABI() {
		l.ABI = d.ABI
	}
	if d.Killed {
		l.Outcome = killed
	} else if l.Outcome == "" {
		l.Outcome = "SIGSYS"
	}
	if d.By == "capability" {
		c.byCapability(&l, d)
	} else {
		c.bySeccomp(&l, d)
	}
	return l
}

func nativeABI() string {
	a, _ := syscalls.Native()
	return a.Short()
}

// Printable keeps what a program calls itself from playing with the terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// byCapability is for a call that the kernel refused for want of capabilities.
func (c *Context) byCapability(l *Line, d *record.Denial) {
	names := d.Capabilities
	l.By = "CAP_" + strings.Join(names, " or CAP_")
	var missing []string
	for _, n := range names {
		if one, err := capability.Parse(n); err == nil && !c.Caps.Has(one) {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		l.By += ", which the container has"
		l.Fix = "the program has given it up, or does not run as root: run it as root"
		switch c.Engine {
		case "":
			l.Fix += ", or add --cap-ambient with --cap-add " + names[0]
		case Bundle:
			l.Fix += ", or add CAP_" + names[0] + " to process.capabilities.inheritable and ambient"
		}
		return
	}
	l.Fix = c.capAdd(missing)
}

// capAdd is the advice to add one of some capabilities. The kernel asks for
// DAC_READ_SEARCH first where reading is all that is wanted.
func (c *Context) capAdd(names []string) string {
	if c.Policy != "" {
		return "brig policy allow --cap-add " + strings.Join(names, " or --cap-add ") + " " + shellWord(c.Policy)
	}
	fix := c.add(names)
	if slices.Contains(names, "SYS_ADMIN") && len(names) == 1 {
		fix += ", which makes the container nearly root of the host"
	}
	return fix
}

// shellWord quotes a file's name where a shell would not take it as it is.
func shellWord(name string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@", r)
	}
	if !strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// add says it in the words of the engine. That a user who is not root has what is
// added, Brig and podman see to, podman by itself.
func (c *Context) add(names []string) string {
	asRoot := ""
	if !c.Root {
		asRoot = ", and run the program as root, or with that capability on its file (setcap)"
	}
	switch c.Engine {
	case Kubernetes:
		return "add " + strings.ReplaceAll(strings.Join(names, " or "), ",", " and ") + " to securityContext.capabilities.add of the container" + asRoot
	case Bundle:
		sets := "bounding, effective and permitted"
		if !c.Root {
			sets = "bounding, effective, permitted, inheritable and ambient"
		}
		return "add CAP_" + strings.ReplaceAll(strings.Join(names, " or CAP_"), ",", " and CAP_") + " to process.capabilities." + sets
	case Docker:
		return "add --cap-add " + strings.Join(names, " or --cap-add ") + asRoot
	}
	fix := "add --cap-add " + strings.Join(names, " or --cap-add ")
	if !c.Root && c.Engine == "" {
		fix += " --cap-ambient"
	}
	return fix
}

// ownProfile is the advice to use a profile that allows a call.
func (c *Context) ownProfile(call string) string {
	switch c.Engine {
	case Kubernetes:
		return "set securityContext.seccompProfile to type Localhost with a profile that allows " + call
	case Bundle:
		return "allow " + call + " in linux.seccomp"
	}
	return "use --security-opt seccomp=FILE with a profile that allows " + call
}

// unlocking is what would bring a call if the profile, which an engine has resolved
// for the container's capabilities, is the engine's default: all are made of
// Docker's. It is nil if nothing would.
func (c *Context) unlocking(arch syscalls.Arch, d *record.Denial) []string {
	if c.Engine == "" || c.Engine == Bundle {
		return nil
	}
	target := seccomp.Target{Arch: c.arch(), Kernel: c.Kernel, Caps: c.Caps}
	e, err := seccomp.Default().Explain(target, arch, d.Syscall, trimArgs(arch, d))
	if err != nil || e.Action == "ALLOW" || len(e.With) == 0 {
		return nil
	}
	return short(weakest(e.With))
}

// bySeccomp is for a call that the filter stopped.
func (c *Context) bySeccomp(l *Line, d *record.Denial) {
	name := "seccomp " + c.ProfileName
	if c.Profile == nil {
		l.By, l.Fix = "a seccomp filter of the container's own", "see the program's own settings"
		return
	}
	l.By, l.Fix = name, c.ownProfile(d.Syscall)
	if c.Policy != "" {
		name = "the policy"
		l.By, l.Fix = name, fmt.Sprintf("brig policy allow %s %s", shellWord(c.Policy), d.Syscall)
	}
	if d.Errno == "ENOSYS" {
		l.Harmless = true
		l.Fix = "harmless as a rule: programs fall back on older calls"
	}
	arch, err := syscalls.ParseShort(d.ABI)
	if err != nil {
		return
	}
	e, err := c.Profile.Explain(seccomp.Target{Arch: c.arch(), Kernel: c.Kernel, Caps: c.Caps}, arch, d.Syscall, trimArgs(arch, d))
	if err != nil {
		return
	}
	switch {
	case e.Action == "ALLOW" || e.Action == "LOG":
		l.By, l.Fix = "a seccomp filter of the container's own", "see the program's own settings"
		return
	case e.Line > 0 && c.Policy == "":
		l.By = fmt.Sprintf("%s, line %d", name, e.Line)
		if !l.Harmless {
			l.Fix = "allow it there"
		}
	}
	if caps := c.unlocking(arch, d); caps != nil && !l.Harmless {
		l.Fix = c.addAll(caps) + "; a profile that is not the engine's default must allow " + d.Syscall + " itself"
	}
	if len(e.With) > 0 {
		caps := short(weakest(e.With))
		l.By = name + " and CAP_" + strings.Join(caps, " and CAP_")
		l.Fix = c.addAll(caps)
		if l.Harmless {
			l.Fix = "harmless as a rule: programs fall back on older calls"
		}
	}
}

// weakest is the set of capabilities that does least harm.
func weakest(with []seccomp.WithCaps) []string {
	cost := func(w seccomp.WithCaps) int {
		n := len(w.Caps)
		if slices.Contains(w.Caps, "CAP_SYS_ADMIN") {
			n += 100
		}
		return n
	}
	return slices.MinFunc(with, func(a, b seccomp.WithCaps) int { return cost(a) - cost(b) }).Caps
}

func (c *Context) addAll(names []string) string { return c.capAdd([]string{strings.Join(names, ",")}) }

func (c *Context) arch() seccomp.Arch {
	a, _ := syscalls.Native()
	return a
}

func short(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.TrimPrefix(n, "CAP_")
	}
	return out
}

// trimArgs are as many arguments as the call has.
func trimArgs(arch syscalls.Arch, d *record.Denial) []uint64 {
	call, ok := syscalls.Find(d.Syscall)
	if !ok {
		return nil
	}
	n, ok := call.NArgs(arch)
	if !ok {
		return nil
	}
	return d.Args[:n]
}

// Suspicious reports whether a system call is one that few containers need and
// that opens much of the kernel: those that Docker's default profile keeps back
// somewhere, and some that it lets through.
func Suspicious(name string) bool {
	if seccomp.BlockReason(name) != "" && name != "clone" && name != "socket" && name != "arch_prctl" {
		return true
	}
	_, found := slices.BinarySearch(suspicious[:], name)
	return found
}

var suspicious = [...]string{
	"chroot", "execveat", "memfd_create", "memfd_secret", "mknod", "mknodat", "name_to_handle_at", "personality",
	"pidfd_getfd", "pkey_alloc", "pkey_mprotect", "process_madvise", "process_mrelease", "process_vm_readv",
	"process_vm_writev", "ptrace", "remap_file_pages", "seccomp", "setfsgid", "setfsuid", "splice", "tee", "vfork", "vmsplice",
}

// SuspiciousValue reports whether a call with this value in an argument opens more
// of the kernel than the same call with others: unusual sockets, new namespaces,
// memory that is code, commands that change what a process may do.
func SuspiciousValue(call string, arg int, value uint64) bool {
	has := func(bits uint64) bool { return value&bits != 0 }
	among := func(list ...uint64) bool { return slices.Contains(list, value) }
	switch call {
	case "socket":
		const kind = 0xf // SOCK_TYPE_MASK, include/linux/net.h
		return arg == 0 && !among(unix.AF_UNIX, unix.AF_INET, unix.AF_INET6) || arg == 1 && value&kind == unix.SOCK_RAW
	case "clone", "unshare":
		return arg == 0 && has(unix.CLONE_NEWNS|unix.CLONE_NEWCGROUP|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWUSER|
			unix.CLONE_NEWPID|unix.CLONE_NEWNET)
	case "mmap", "mmap2", "mprotect", "pkey_mprotect":
		return arg == 2 && has(unix.PROT_EXEC) && (has(unix.PROT_WRITE) || call != "mmap" && call != "mmap2")
	case "personality":
		return arg == 0 && !among(0, 1<<32-1)
	case "prctl":
		return arg == 0 && among(unix.PR_SET_DUMPABLE, unix.PR_SET_KEEPCAPS, unix.PR_SET_SECCOMP, unix.PR_SET_SECUREBITS,
			unix.PR_SET_MM, unix.PR_CAP_AMBIENT, unix.PR_SET_PTRACER, unix.PR_SET_SYSCALL_USER_DISPATCH)
	case "ioctl":
		const siocdevprivate = 0x89ff
		return arg == 1 && (among(unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCSETD, unix.TUNSETIFF) || value > 0xffff || value > 0x8900 && value <= siocdevprivate)
	case "setsockopt":
		return arg == 1 && !among(unix.SOL_SOCKET, unix.SOL_IP, unix.SOL_IPV6, unix.SOL_TCP, unix.SOL_UDP)
	case "ptrace", "keyctl", "bpf":
		return arg == 0
	}
	return false
}
