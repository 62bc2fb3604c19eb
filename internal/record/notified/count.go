package notified

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/seccomp/notify"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// abis are those that this machine's kernel may run, the native one first.
var abis = func() []syscalls.Arch {
	if runtime.GOARCH == "arm64" {
		return []syscalls.Arch{syscalls.AARCH64, syscalls.ARM}
	}
	return []syscalls.Arch{syscalls.X86_64, syscalls.I386, syscalls.X32}
}()

// assumed are calls that are let through unseen. If a signal comes before a
// notification is received, the kernel ends the call with EINTR unless the signal's
// handler has SA_RESTART (seccomp_unotify(2), "Interaction with SA_RESTART signal
// handlers"). Most programs cope with that where they wait or open, and none where
// they allocate memory, make processes or handle signals. These are calls that
// hardly a program does without.
func assumed() []string {
	return []string{
		"brk", "clone", "clone3", "exit", "exit_group", "fork", "futex", "mmap", "mmap2", "mprotect", "mremap", "munmap",
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "set_robust_list", "set_tid_address", "sigaltstack", "sigreturn", "vfork",
	}
}

// maxValues is how many values of an argument are kept, as many as package record
// keeps.
const maxValues = 16

// key is a system call of an ABI.
type key struct {
	arch syscalls.Arch
	nr   uint32
}

// call is what is known of one.
type call struct {
	record.Syscall
	watched uint8 // arguments whose values are kept, as bits
	wide    uint8 // those of 64 bits
}

// counter counts calls.
type counter struct {
	start time.Time

	mu      sync.Mutex
	n       uint64 // calls
	started bool   // the execve of the program is over
	calls   map[key]*call
	unknown uint64 // calls of an ABI without a table
}

func newCounter() *counter {
	return &counter{start: time.Now(), calls: map[key]*call{}}
}

// handle counts a call and lets it go on.
func (c *counter) handle(r *notify.Request) error {
	c.count(r)
	return r.Continue()
}

func (c *counter) count(r *notify.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		c.started = true // the start's own execve, which no filter of the command's would see
		return
	}
	c.n++
	k, ok := keyOf(r)
	if !ok {
		c.unknown++
		return
	}
	one := c.calls[k]
	if one == nil {
		one = c.first(k, r)
		c.calls[k] = one
	}
	one.Count++
	one.Startup++
	if one.watched != 0 {
		one.keep(r.Args)
	}
}

// total is how many calls there were.
func (c *counter) total() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func keyOf(r *notify.Request) (key, bool) {
	for _, a := range abis {
		if a.Audit() == r.Arch && r.Nr&a.Bit() == a.Bit() && (a != syscalls.X86_64 || r.Nr&syscalls.X32.Bit() == 0) {
			return key{a, r.Nr}, true
		}
	}
	return key{}, false
}

// names are those of the program of a thread, and of the thread if that has
// another.
func names(tid int) (program, thread string) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return "", "" // it has been killed
	}
	leader := tid
	for line := range strings.Lines(string(status)) {
		if n, ok := strings.CutPrefix(line, "Tgid:\t"); ok {
			leader, _ = strconv.Atoi(strings.TrimSpace(n))
		}
	}
	thread = comm(tid)
	if program = comm(leader); program == thread {
		thread = ""
	}
	return program, thread
}

func comm(tid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", tid))
	return strings.TrimSuffix(string(b), "\n")
}

// first makes the entry of a call that is new, while its caller waits.
func (c *counter) first(k key, r *notify.Request) *call {
	one := &call{}
	one.ABI, one.Nr = k.arch.Short(), k.nr
	one.Name, _ = syscalls.Name(k.arch, k.nr)
	one.FirstPID, one.FirstAfter = r.PID, time.Since(c.start)
	one.FirstProgram, one.FirstThread = names(r.PID)
	if s, ok := syscalls.Find(one.Name); ok {
		one.watched = record.WatchedArgs(k.arch, one.Name)
		for i := range 6 {
			if one.watched&(1<<i) == 0 {
				continue
			}
			one.Args = append(one.Args, record.ArgValues{Index: uint8(i)})
			if s.Width(k.arch, i) == 64 {
				one.wide |= 1 << i
			}
		}
	}
	return one
}

// keep notes the values of the arguments, as wide as the kernel reads them.
func (c *call) keep(args [6]uint64) {
	for i := range c.Args {
		a := &c.Args[i]
		v := args[a.Index]
		if c.wide&(1<<a.Index) == 0 {
			v = uint64(uint32(v))
		}
		at, found := slices.BinarySearch(a.Values, v)
		switch {
		case found:
		case len(a.Values) == maxValues:
			a.More = true
		default:
			a.Values = slices.Insert(a.Values, at, v)
		}
	}
}

// recording is what was counted, in the form of package record.
func (c *counter) recording() *record.Recording {
	c.mu.Lock()
	defer c.mu.Unlock()
	rec := record.New(c.start)
	for _, name := range assumed() {
		if call, ok := syscalls.Find(name); ok {
			if _, ok := call.Number(abis[0]); ok {
				rec.Assumed = append(rec.Assumed, name)
			}
		}
	}
	rec.Notes = []string{"recorded without privileges: which capabilities were asked for, and what was denied, is not seen; no program gained privileges by being executed",
		"memory, processes and signal handlers are handled by calls that were not recorded and are assumed: " + strings.Join(rec.Assumed, " ")}
	if c.unknown > 0 {
		rec.Complete, rec.Lost = false, map[string]uint64{"calls of an ABI that no table has": c.unknown}
	}
	for _, one := range c.calls {
		rec.IOUring = rec.IOUring || one.Name == "io_uring_setup"
		call := one.Syscall
		call.Args = slices.Clone(call.Args) // what is counted meanwhile changes them
		for i := range call.Args {
			call.Args[i].Values = slices.Clone(call.Args[i].Values)
		}
		rec.Syscalls = append(rec.Syscalls, call)
	}
	slices.SortFunc(rec.Syscalls, func(a, b record.Syscall) int {
		return cmp.Or(cmp.Compare(a.ABI, b.ABI), cmp.Compare(a.Nr, b.Nr))
	})
	return rec
}
