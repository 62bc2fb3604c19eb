package rootless

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/rootless/holder"
	"github.com/brig-run/brig/internal/runtime/inside"
	"github.com/brig-run/brig/internal/userns"
)

// Enter runs this command again in the user's namespace, as root there, and
// returns its exit code. env are further variables for it.
func Enter(env []string) (code int, err error) {
	dir, err := runtimeDir()
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread() // children die with the thread that made them
	pid, err := findHolder(dir)
	if err != nil {
		return 0, fmt.Errorf("make your user namespace: %w", err)
	}
	env = append(env, fmt.Sprintf("%s=%d:%d", userns.OuterVar, os.Getuid(), os.Getgid()))
	return run(pid, append(os.Environ(), env...))
}

// runtimeDir is a directory of the user's own for what shall not outlive a
// session.
func runtimeDir() (string, error) {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = fmt.Sprintf("/tmp/brig-%d", os.Getuid())
	} else {
		dir = filepath.Join(dir, "brig")
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the directory for your user namespace: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o077 != 0 {
		return "", fmt.Errorf("%s is not a directory of yours alone; remove it, or set XDG_RUNTIME_DIR", dir)
	}
	return dir, nil
}

// findHolder finds the process that holds the namespace, or starts it.
func findHolder(dir string) (int, error) {
	l, err := os.OpenFile(filepath.Join(dir, "rootless.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	if err := unix.Flock(int(l.Fd()), unix.LOCK_EX); err != nil {
		return 0, err
	}
	name := filepath.Join(dir, "rootless.pid")
	if pid, ok := recorded(name); ok {
		return pid, nil
	}
	pid, notes, err := newHolder()
	if err != nil {
		return 0, err
	}
	for _, n := range notes {
		fmt.Fprintln(os.Stderr, "brig: warning: "+n)
	}
	ticks, _ := monitor.ProcessStart(pid)
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d %d", pid, ticks), 0o600); err != nil {
		unix.Kill(pid, unix.SIGKILL)
		return 0, err
	}
	return pid, nil
}

// recorded reads the process that is on record, if that still lives.
func recorded(name string) (int, bool) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	first, second, _ := strings.Cut(string(b), " ")
	pid, err1 := strconv.Atoi(first)
	want, err2 := strconv.ParseUint(second, 10, 64)
	if err1 != nil || err2 != nil {
		return 0, false
	}
	ticks, ok := monitor.ProcessStart(pid)
	return pid, ok && ticks == want
}

// newHolder makes the namespaces, with a process that stays in them.
func newHolder() (pid int, notes []string, err error) {
	maps, notes := mappings()
	b := inside.NewBuilder()
	b.What("wait for the maps of IDs")
	b.Ask(inside.AskMaps)
	becomeRoot(b)
	b.What("leave the host's mount propagation")
	b.Call(unix.SYS_MOUNT, inside.V(0), b.Str("/"), inside.V(0), inside.V(unix.MS_REC|unix.MS_SLAVE), inside.V(0))
	b.Call(unix.SYS_SETSID)
	b.Call(unix.SYS_CHDIR, b.Str("/"))
	ownStreams(b)
	unblock(b)
	b.What("execute the program that holds the namespace")
	b.Call(unix.SYS_EXECVE, b.Str("/proc/self/exe"), b.Strs([]string{holder.Argv0}), b.Strs(nil))
	pid, err = perform(b, inside.Clone{Flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, PIDNS: -1, CgroupFD: -1}, func(_ byte, pid int) error {
		for _, m := range maps {
			if err := m.write(pid); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w: unprivileged user namespaces are switched off here (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns): use sudo, or ask your administrator", err)
	}
	return pid, notes, err
}

// becomeRoot takes user and group 0 of the namespace.
func becomeRoot(b *inside.Builder) {
	b.What("become root of the user namespace")
	zero := inside.V(0)
	b.Call(unix.SYS_SETRESGID, zero, zero, zero)
	b.Call(unix.SYS_SETRESUID, zero, zero, zero)
	b.Call(unix.SYS_SETGROUPS, zero, zero).On(uint16(unix.EPERM), 0) // denied where only the user itself is mapped
}

// ownStreams lets go of the caller's descriptors.
func ownStreams(b *inside.Builder) {
	null := b.NewReg()
	b.What("open the null device")
	b.Call(unix.SYS_OPENAT, inside.V(unix.AT_FDCWD), b.Str("/dev/null"), inside.V(unix.O_RDWR|unix.O_CLOEXEC), inside.V(0)).To(null)
	b.Call(unix.SYS_FCNTL, inside.R(inside.RegDone), inside.V(unix.F_DUPFD_CLOEXEC), inside.V(10)).To(inside.RegDone)
	b.Call(unix.SYS_FCNTL, inside.R(null), inside.V(unix.F_DUPFD_CLOEXEC), inside.V(10)).To(null)
	for fd := range 3 {
		b.Call(unix.SYS_DUP3, inside.R(null), inside.V(fd), inside.V(0))
	}
	b.Call(unix.SYS_DUP3, inside.R(inside.RegDone), inside.V(3), inside.V(unix.O_CLOEXEC))
	b.Call(unix.SYS_CLOSE_RANGE, inside.V(4), inside.V(uint32(0xffffffff)), inside.V(0))
}

// unblock lets signals through again, which the clone has blocked.
func unblock(b *inside.Builder) {
	b.Call(unix.SYS_RT_SIGPROCMASK, inside.V(2 /* SIG_SETMASK */), b.Bytes(make([]byte, 8)), inside.V(0), inside.V(8))
}

// run executes this command again, in the namespaces of the process pid.
func run(pid int, env []string) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	b := inside.NewBuilder()
	reg := b.NewReg()
	b.What("enter your user namespace")
	b.Call(unix.SYS_SETNS, inside.V(fd), inside.V(unix.CLONE_NEWUSER|unix.CLONE_NEWNS))
	becomeRoot(b)
	b.What("change to " + cwd)
	b.Call(unix.SYS_CHDIR, b.Str(cwd))
	b.Pseudo(inside.Set, inside.V(0)).To(reg)
	b.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_PDEATHSIG), inside.V(int(unix.SIGKILL)), inside.V(0), inside.V(0), inside.V(0))
	unblock(b)
	b.What("execute brig as root of your user namespace")
	b.Call(unix.SYS_EXECVE, b.Str("/proc/self/exe"), b.Strs(os.Args), b.Strs(env))
	sigs := make(chan os.Signal, 32)
	signal.Notify(sigs)
	child, err := perform(b, inside.Clone{PIDNS: -1, CgroupFD: -1}, nil)
	unix.Close(fd)
	if err != nil {
		return 0, err
	}
	return attend(child, sigs), nil
}

// perform runs a program, and names the step that failed.
func perform(b *inside.Builder, c inside.Clone, ask func(byte, int) error) (int, error) {
	raw := b.Assemble()
	fd, err := unix.MemfdCreate("brig-program", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, raw); err != nil {
		return 0, err
	}
	p, err := inside.Map(fd, len(raw))
	if err != nil {
		return 0, err
	}
	defer p.Unmap()
	pid, err := p.Spawn(c, nil, ask)
	var step *inside.StepError
	if errors.As(err, &step) {
		err = fmt.Errorf("%s: %w", b.Tags[step.Tag], step.Errno)
	}
	return pid, err
}

// attend waits for the command, and hands it the signals that reach this process
// alone: those of the terminal reach both.
func attend(pid int, sigs <-chan os.Signal) int {
	for s := range sigs {
		switch s {
		case unix.SIGCHLD:
			var ws unix.WaitStatus
			got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
			switch {
			case err == unix.ECHILD:
				return 125
			case got != pid:
			case ws.Signaled():
				return 128 + int(ws.Signal())
			default:
				return ws.ExitStatus()
			}
		case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGWINCH, unix.SIGCONT, unix.SIGURG, unix.SIGPIPE:
		default:
			unix.Kill(pid, s.(unix.Signal))
		}
	}
	return 125
}
