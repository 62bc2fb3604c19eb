package ocicmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/signal"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/oci"
)

// createFlags are common to create and run.
func createFlags(f *pflag.FlagSet, o *oci.CreateOptions) {
	f.StringVarP(&o.Bundle, "bundle", "b", ".", "directory of the bundle")
	f.StringVar(&o.ConsoleSocket, "console-socket", "", "socket that gets the master of the terminal")
	f.StringVar(&o.PIDFile, "pid-file", "", "file that gets the process ID")
	f.BoolVar(&o.NoPivot, "no-pivot", false, "move the root instead of pivot_root, for a root in memory")
	f.BoolVar(&o.NoKeyring, "no-new-keyring", false, "keep the caller's session keyring")
	f.IntVar(&o.KeepFiles, "preserve-fds", 0, "pass `N` descriptors from 3 on to the container")
}

func createCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	var o oci.CreateOptions
	createFlags(f, &o)
	f.StringVar(&o.PIDFDSocket, "pidfd-socket", "", "socket that gets a pidfd of the first process")
	return func(args []string) (int, error) {
		o.ID = args[0]
		if err := inherited(&o); err != nil {
			return 1, err
		}
		return 0, a.rt.Create(o)
	}
}

func runCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	var o oci.RunOptions
	createFlags(f, &o.CreateOptions)
	f.StringVar(&o.PIDFDSocket, "pidfd-socket", "", "socket that gets a pidfd of the first process")
	f.BoolVarP(&o.Detach, "detach", "d", false, "do not wait for its end")
	f.BoolVar(&o.Keep, "keep", false, "do not delete it at its end")
	f.BoolVar(&o.NoSubreaper, "no-subreaper", false, "do not adopt its orphans")
	return func(args []string) (int, error) {
		o.ID = args[0]
		if err := inherited(&o.CreateOptions); err != nil {
			return 1, err
		}
		return a.rt.Run(o)
	}
}

// inherited takes from the environment what the container shall have of it: the
// descriptors of socket activation, which come before the others that are passed
// on (sd_listen_fds(3)), and the socket of sd_notify(3).
func inherited(o *oci.CreateOptions) error {
	o.NotifySocket = os.Getenv("NOTIFY_SOCKET")
	if err := keepFiles(o.KeepFiles); err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	// They are for the process that is named. Engines say "1", the container's.
	if pid := os.Getenv("LISTEN_PID"); err != nil || n <= 0 || pid != strconv.Itoa(os.Getpid()) && pid != "1" {
		return nil
	}
	o.KeepFiles += n
	o.Listen = []string{"LISTEN_FDS=" + strconv.Itoa(n), "LISTEN_PID=1"}
	if names := os.Getenv("LISTEN_FDNAMES"); names != "" {
		o.Listen = append(o.Listen, "LISTEN_FDNAMES="+names)
	}
	return keepFiles(o.KeepFiles)
}

// keepFiles makes sure that n descriptors from 3 on are the caller's: a hole
// would be filled with a file of this process.
func keepFiles(n int) error {
	if n < 0 {
		return fmt.Errorf("--preserve-fds %d: must not be negative", n)
	}
	for fd := 3; fd < 3+n; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 { // our own have it
			return fmt.Errorf("--preserve-fds: descriptor %d is not open", fd)
		}
	}
	return nil
}

// withContainer is a command that takes nothing but a container.
func withContainer(a *app, do func(*oci.Container) error) func([]string) (int, error) {
	return func(args []string) (int, error) {
		c, err := a.rt.Find(args[0])
		if err != nil {
			return 1, err
		}
		return 0, do(c)
	}
}

func startCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	return withContainer(a, func(c *oci.Container) error { return c.Start(os.Getenv("NOTIFY_SOCKET")) })
}

func pauseCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	return withContainer(a, (*oci.Container).Pause)
}

func resumeCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	return withContainer(a, (*oci.Container).Resume)
}

func killCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	all := f.BoolP("all", "a", false, "send it to all processes of the container")
	return func(args []string) (int, error) {
		c, err := a.rt.Find(args[0])
		if err != nil {
			return 1, err
		}
		sig := unix.SIGTERM
		if len(args) > 1 {
			if sig, err = parseSignal(args[1]); err != nil {
				return 1, err
			}
		}
		err = c.Kill(sig, *all)
		if *all && errors.Is(err, oci.ErrNotRunning) {
			err = nil // as runc: there is nobody left to be told
		}
		return 0, err
	}
}

func parseSignal(s string) (unix.Signal, error) {
	n, err := strconv.Atoi(s)
	if err == nil && n >= 0 && n < 65 { // 0 only asks
		return unix.Signal(n), nil
	}
	if err == nil {
		return 0, fmt.Errorf("unknown signal %q", s)
	}
	sig, err := signal.ParseSignal(s)
	if err != nil {
		return 0, fmt.Errorf("unknown signal %q", s)
	}
	return sig, nil
}

func deleteCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	force := f.BoolP("force", "f", false, "end it first if it runs; no error if there is none")
	return func(args []string) (int, error) { return 0, a.rt.Delete(args[0], *force) }
}

func execCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	var o oci.ExecOptions
	user := f.StringP("user", "u", "", "UID[:GID]")
	groups := f.Int64SliceP("additional-gids", "g", nil, "more groups")
	noPrivs := f.Bool("no-new-privs", false, "set no_new_privs")
	f.StringVar(&o.ConsoleSocket, "console-socket", "", "socket that gets the master of the terminal")
	f.StringVar(&o.PIDFDSocket, "pidfd-socket", "", "socket that gets a pidfd of the process")
	f.StringVar(&o.Cwd, "cwd", "", "working directory")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "variables NAME=VALUE")
	f.BoolVarP(&o.TTY, "tty", "t", false, "give it a terminal")
	f.StringVarP(&o.ProcessFile, "process", "p", "", "file with the process as JSON")
	f.BoolVarP(&o.Detach, "detach", "d", false, "do not wait for its end")
	f.StringVar(&o.PIDFile, "pid-file", "", "file that gets the process ID")
	f.StringVar(&o.Label, "process-label", "", "SELinux label")
	f.StringVar(&o.AppArmor, "apparmor", "", "AppArmor profile")
	f.StringArrayVarP(&o.Caps, "cap", "c", nil, "add a capability")
	f.IntVar(&o.KeepFiles, "preserve-fds", 0, "pass `N` descriptors from 3 on to the process")
	f.StringArrayVar(&o.Cgroup, "cgroup", nil, "cgroup below the container's: PATH or CONTROLLER[,...]:PATH")
	f.BoolVar(&o.IgnorePaused, "ignore-paused", false, "also in a paused container")
	return func(args []string) (int, error) {
		code, err := a.exec(&o, f, args, *user, *groups, *noPrivs)
		if err != nil {
			return 255, fmt.Errorf("exec failed: %w", err)
		}
		return code, nil
	}
}

func (a *app) exec(o *oci.ExecOptions, f *pflag.FlagSet, args []string, user string, groups []int64, noPrivs bool) (int, error) {
	o.Args = args[1:]
	if o.ProcessFile == "" && len(o.Args) == 0 {
		return 0, errors.New("no command given, and no --process")
	}
	if err := keepFiles(o.KeepFiles); err != nil {
		return 0, err
	}
	if f.Changed("no-new-privs") {
		o.NoNewPrivs = &noPrivs
	}
	for _, g := range groups {
		if g < 0 || g > 1<<32-2 {
			return 0, fmt.Errorf("--additional-gids %d: want a group ID", g)
		}
		o.Groups = append(o.Groups, uint32(g))
	}
	if user != "" {
		u, err := parseUser(user)
		if err != nil {
			return 0, err
		}
		o.User = u
	}
	c, err := a.rt.Find(args[0])
	if err != nil {
		return 0, err
	}
	return c.Exec(*o)
}

func parseUser(s string) (*specs.User, error) {
	uid, gid, both := strings.Cut(s, ":")
	u := &specs.User{}
	n, err := strconv.ParseUint(uid, 10, 32)
	u.UID = uint32(n)
	if err == nil && both {
		n, err = strconv.ParseUint(gid, 10, 32)
		u.GID = uint32(n)
	}
	if err != nil {
		return nil, fmt.Errorf("--user %q: want UID or UID:GID in numbers", s)
	}
	return u, nil
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
