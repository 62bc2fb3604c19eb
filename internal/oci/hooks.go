package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/runtime/inside"
)

// hasEarlyHooks says whether hooks run between the mounts and pivot_root.
func (c *creation) hasEarlyHooks() bool {
	h := c.spec.Hooks
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 //nolint:staticcheck // engines still use prestart
}

// earlyHooks runs those hooks: the first two kinds beside the container, the
// third in its namespaces.
func (c *creation) earlyHooks(pid int) error {
	c.Hooked = true
	if err := c.save(); err != nil {
		return err
	}
	state := c.stateAs(Creating)
	state.Pid = pid
	h := c.spec.Hooks
	for _, k := range []struct {
		kind  string
		hooks []specs.Hook
	}{{"prestart", h.Prestart}, {"createRuntime", h.CreateRuntime}} { //nolint:staticcheck
		if err := c.runHooks(k.hooks, state, nil); err != nil {
			return fmt.Errorf("%s %w", k.kind, err)
		}
	}
	in := func(h specs.Hook) (*runtime.Plan, error) {
		return runtime.NewHook(runtime.HookConfig{PID: pid, Namespaces: c.spec.Linux.Namespaces, Program: h.Path, Args: hookArgs(h), Env: h.Env})
	}
	if err := c.runHooks(h.CreateContainer, state, in); err != nil {
		return fmt.Errorf("createContainer %w", err)
	}
	return nil
}

// startHooks runs the startContainer hooks: in the container, as its process
// would run.
func (c *Container) startHooks() error {
	spec, err := c.Spec()
	if err != nil || spec.Hooks == nil || len(spec.Hooks.StartContainer) == 0 {
		return err
	}
	if err := seal(); err != nil {
		return err
	}
	filter, err := c.loadFilter()
	if err != nil {
		return err
	}
	if filter != nil && filter.Listener {
		filter = nil // its agent is told of the container's own process only
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	in := func(h specs.Hook) (*runtime.Plan, error) {
		p := *spec.Process
		p.Args, p.Env, p.Terminal = hookArgs(h), h.Env, false
		return runtime.NewExec(runtime.ExecConfig{Process: &p, Program: h.Path, PID: c.PID, Namespaces: spec.Linux.Namespaces, Filter: filter, Cgroups: g.Layout})
	}
	if err := c.runHooks(spec.Hooks.StartContainer, c.stateAs(Created), in); err != nil {
		return fmt.Errorf("startContainer %w", err)
	}
	return nil
}

// poststart runs the hooks of that kind. A failure ends the container, as
// everywhere before it (runtime-spec 1.3, runtime.md, Lifecycle, step 9).
func (c *Container) poststart() error {
	spec, err := c.Spec()
	if err != nil || spec.Hooks == nil {
		return err
	}
	if err := c.runHooks(spec.Hooks.Poststart, c.stateAs(Running), nil); err != nil {
		c.end()
		return fmt.Errorf("poststart %w", err)
	}
	return nil
}

// poststop runs the hooks of that kind. A failure is a warning, and the others
// still run (step 12).
func (c *Container) poststop() {
	spec, err := c.Spec()
	if err != nil || spec.Hooks == nil {
		return
	}
	for i := range spec.Hooks.Poststop {
		if err := c.runHooks(spec.Hooks.Poststop[i:i+1], c.stateAs(Stopped), nil); err != nil {
			c.rt.Warn("poststop " + err.Error())
		}
	}
}

// runHooks runs hooks one after another, up to the first that fails. in plans a
// hook that runs in the container; without it hooks run beside the container.
func (c *Container) runHooks(hooks []specs.Hook, state *specs.State, in func(specs.Hook) (*runtime.Plan, error)) error {
	if len(hooks) == 0 {
		return nil
	}
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	for i, h := range hooks {
		if in == nil {
			err = runHook(h, text)
		} else {
			err = runHookIn(h, text, in)
		}
		if err != nil {
			return fmt.Errorf("hook #%d %s: %w", i, h.Path, err)
		}
	}
	return nil
}

func hookArgs(h specs.Hook) []string {
	if len(h.Args) == 0 {
		return []string{h.Path}
	}
	return h.Args
}

// hookStreams are the state on the standard input, and a file that collects what
// the hook says.
func hookStreams(state []byte) (in, out *os.File, err error) {
	if in, err = memory("state"); err != nil {
		return nil, nil, err
	}
	if _, err = in.Write(state); err == nil {
		_, err = in.Seek(0, io.SeekStart)
	}
	if err == nil {
		out, err = memory("output")
	}
	if err != nil {
		in.Close()
	}
	return in, out, err
}

func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func runHook(h specs.Hook, state []byte) error {
	in, out, err := hookStreams(state)
	if err != nil {
		return err
	}
	defer in.Close()
	defer out.Close()
	env := h.Env
	if env == nil {
		env = []string{}
	}
	var p *os.Process
	err = unblocked(func() (err error) {
		p, err = os.StartProcess(h.Path, hookArgs(h), &os.ProcAttr{Env: env, Files: []*os.File{in, out, out}})
		return err
	})
	if err != nil {
		return err
	}
	defer p.Release()
	return waitHook(h, p.Pid, out)
}

func runHookIn(h specs.Hook, state []byte, in func(specs.Hook) (*runtime.Plan, error)) error {
	stdin, out, err := hookStreams(state)
	if err != nil {
		return err
	}
	defer stdin.Close()
	defer out.Close()
	plan, err := in(h)
	if err != nil {
		return err
	}
	defer plan.Close()
	prog, err := load(plan, [3]*os.File{stdin, out, out})
	if err != nil {
		return err
	}
	defer prog.Unmap()
	clone := inside.Clone{PIDNS: -1, CgroupFD: -1, Forks: plan.Forks}
	if plan.PIDNS != nil {
		clone.PIDNS = int(plan.PIDNS.Fd())
	}
	pid, err := prog.Spawn(clone, nil, nil)
	var step *inside.StepError
	if errors.As(err, &step) {
		return plan.Failure(step.Tag, step.Errno)
	}
	if err != nil {
		return err
	}
	return waitHook(h, pid, out)
}

// load maps a plan with its descriptors and streams.
func load(plan *runtime.Plan, streams [3]*os.File) (*inside.Program, error) {
	f, err := memory("brig-program")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Write(plan.Program); err != nil {
		return nil, err
	}
	prog, err := inside.Map(int(f.Fd()), len(plan.Program))
	if err != nil {
		return nil, err
	}
	for _, file := range plan.Files {
		prog.SetReg(file.Reg, uint64(file.File.Fd()))
	}
	for i, s := range streams {
		prog.SetReg(uint8(inside.RegStdin+i), uint64(s.Fd()))
	}
	return prog, nil
}

// waitHook waits for a hook's end, at most for its timeout (seconds).
func waitHook(h specs.Hook, pid int, out *os.File) error {
	late := false
	if h.Timeout != nil {
		if late = !exitsWithin(pid, time.Duration(*h.Timeout)*time.Second); late {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			break
		}
	}
	var err error
	switch {
	case late:
		err = fmt.Errorf("did not end within %d seconds (timeout)", *h.Timeout)
	case ws.Signaled():
		err = fmt.Errorf("ended by signal %v", ws.Signal())
	case ws.ExitStatus() != 0:
		err = fmt.Errorf("exit status %d", ws.ExitStatus())
	default:
		return nil
	}
	if said := hookOutput(out); said != "" {
		err = fmt.Errorf("%w, output: %s", err, said)
	}
	return err
}

// hookOutput is the end of what a hook said, on one line.
func hookOutput(out *os.File) string {
	const enough = 2 << 10
	size, _ := out.Seek(0, io.SeekEnd)
	b := make([]byte, min(size, enough))
	n, _ := out.ReadAt(b, max(size-enough, 0))
	return strings.Join(strings.Fields(string(bytes.ToValidUTF8(b[:n], nil))), " ")
}

// exitsWithin waits for a process's end.
func exitsWithin(pid int, limit time.Duration) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	return pollExit(fd, limit)
}

// pollExit waits until a process has ended, at most for limit.
func pollExit(pidfd int, limit time.Duration) bool {
	end := time.Now().Add(limit)
	for {
		left := max(time.Until(end), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int((left+time.Millisecond-1)/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		return n > 0
	}
}
