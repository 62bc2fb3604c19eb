package record

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// read makes a Recording of the session's part of the maps.
func (s *Session) read() (*Recording, error) {
	rec := New(s.started)
	rec.Ended = s.started.Add(time.Duration(monotonic() - s.clock))
	rec.Notes, rec.DenialsOnly = slices.Clone(s.r.notes), s.r.denials
	for _, part := range []struct {
		what   string
		counts bool // made of what a recorder of denials does not keep
		read   func(*Recording) error
	}{
		{"system calls", true, s.readSyscalls},
		{"numbers of system calls", true, s.readOdd},
		{"capabilities", false, s.readCapabilities},
		{"denials", false, s.readDenials},
		{"losses", false, s.readLost},
	} {
		if part.counts && s.r.denials {
			continue
		}
		if err := part.read(rec); err != nil {
			return nil, fmt.Errorf("read the recorded %s: %w", part.what, err)
		}
	}
	s.judge(rec)
	return rec, nil
}

// judge adds what follows from the rest.
func (s *Session) judge(rec *Recording) {
	slices.SortFunc(rec.Syscalls, func(a, b Syscall) int {
		return cmp.Or(cmp.Compare(a.ABI, b.ABI), cmp.Compare(a.Nr, b.Nr))
	})
	for _, call := range rec.Syscalls {
		if call.Name == "io_uring_setup" && call.Count > 0 {
			rec.IOUring = true
			rec.Notes = append(rec.Notes, "io_uring was used: no seccomp filter sees its operations, nor does this recording")
		}
	}
	rec.Complete = len(rec.Lost) == 0
}

func (s *Session) readSyscalls(rec *Recording) error {
	seen, err := s.seen()
	if err != nil {
		return err
	}
	for slot := range seen.slots() {
		if slot%abiSlots == odd {
			continue
		}
		call, err := s.readSyscall(slot)
		if err != nil {
			return err
		}
		rec.Syscalls = append(rec.Syscalls, *call)
	}
	return nil
}

func (s *Session) readSyscall(slot uint32) (*Syscall, error) {
	place := s.place*slots + slot
	var perCPU []mapCount
	if err := s.r.coll.Maps["counts"].Lookup(place, &perCPU); err != nil {
		return nil, err
	}
	sum := total(perCPU)
	abi := abis[slot/abiSlots]
	nr := slot%abiSlots | abi.Bit()
	name, _ := syscalls.Name(abi, nr)
	call := count(abi, nr, name, sum)
	var first mapFirst
	if err := s.r.coll.Maps["firsts"].Lookup(place, &first); err != nil {
		return nil, err
	}
	if call.Count > 0 {
		call.FirstProgram, call.FirstThread = names(first.Program, first.Thread)
		call.FirstPID = int(first.PID)
		call.FirstAfter = s.after(first.Time)
	}
	var err error
	call.Args, err = s.readArgs(slot)
	return &call, err
}

func total(perCPU []mapCount) (sum mapCount) {
	for _, c := range perCPU {
		sum.Startup += c.Startup
		sum.Running += c.Running
		sum.Blocked += c.Blocked
	}
	return sum
}

func count(abi syscalls.Arch, nr uint32, name string, c mapCount) Syscall {
	return Syscall{
		ABI: abi.Short(), Nr: nr, Name: name,
		Count: c.Startup + c.Running, Startup: c.Startup, Running: c.Running, Blocked: c.Blocked,
	}
}

// after returns the time since the start for one of the kernel's.
func (s *Session) after(clock uint64) time.Duration {
	return max(0, time.Duration(clock-s.clock))
}

func text(comm [16]byte) string { return unix.ByteSliceToString(comm[:]) }

// names are those of a program, and of its thread if that has another.
func names(program, thread [16]byte) (string, string) {
	if program == thread {
		return text(program), ""
	}
	return text(program), text(thread)
}

func (s *Session) readArgs(slot uint32) (all []ArgValues, err error) {
	mask, place := s.r.args.mask[slot], s.place*s.r.args.places+uint32(s.r.args.first[slot])
	indexes := mask
	if mask == argMemory {
		indexes = 1
	}
	for index := range uint8(6) {
		if indexes&(1<<index) == 0 {
			continue
		}
		var set mapArgset
		if err := s.r.coll.Maps["argsets"].Lookup(place, &set); err != nil {
			return nil, err
		}
		place++
		if arg := set.values(index); arg != nil {
			arg.Memory = mask == argMemory
			all = append(all, *arg)
		}
	}
	return all, nil
}

func (set *mapArgset) values(index uint8) *ArgValues {
	arg := ArgValues{Index: index, More: set.More != 0}
	for _, v := range set.Values {
		if v != 0 {
			arg.Values = append(arg.Values, v-1)
		}
	}
	if set.Ones != 0 {
		arg.Values = append(arg.Values, 1<<64-1)
	}
	if len(arg.Values) == 0 {
		return nil
	}
	slices.Sort(arg.Values)
	arg.Values = slices.Compact(arg.Values)
	return &arg
}

// readOdd reads the counts of numbers that no table has.
func (s *Session) readOdd(rec *Recording) error {
	var key mapOddKey
	var c mapCount
	entries := s.r.coll.Maps["odds"].Iterate()
	for entries.Next(&key, &c) {
		if key.Session == s.number {
			rec.Syscalls = append(rec.Syscalls, count(abis[key.ABI], key.Nr, "", c))
		}
	}
	return entries.Err()
}

// checks are the entries of the map of capabilities that tell the same story.
type checks struct {
	Capability
	frames [frames]uint64
	other  bool // another's credentials
}

func (s *Session) readCapabilities(rec *Recording) error {
	if s.r.denials {
		if matters, err := s.refusals(); err != nil || !matters {
			return err
		}
	}
	seen, err := s.seen()
	if err != nil {
		return err
	}
	var all []*checks
	var key mapCapabilityKey
	var c mapCapability
	entries := s.r.coll.Maps["capabilities"].Iterate()
	for entries.Next(&key, &c) {
		if key.Session == s.number {
			all = addCheck(all, &key, &c, seen.UserNS)
		}
	}
	if err := entries.Err(); err != nil {
		return err
	}
	for _, check := range all {
		if err := s.explain(check); err != nil {
			return err
		}
	}
	rec.Capabilities = fold(all)
	return nil
}

func addCheck(all []*checks, key *mapCapabilityKey, c *mapCapability, own uint32) []*checks {
	ns := "other"
	if key.UserNS == own {
		ns = "own"
	}
	check := &checks{frames: key.Stack, other: key.OtherCred != 0}
	check.Name, check.UserNS = capability.Cap(key.Cap).Short(), ns
	check.Granted, check.Refused = c.Granted, c.Refused
	check.Programs = []string{text(key.Program)}
	if name := callName(key.Slot, key.Nr); name != "" {
		check.Syscalls = []string{name}
	}
	return append(all, check)
}

// callName names a call by its slot; "" for none.
func callName(slot, nr uint32) string {
	if slot >= slots {
		return ""
	}
	abi := abis[slot/abiSlots]
	if name, ok := syscalls.Name(abi, nr); ok {
		return name
	}
	return fmt.Sprintf("%s:%d", abi.Short(), nr)
}

// explain puts names to the frames, and classifies the check.
func (s *Session) explain(c *checks) error {
	if err := s.r.symbols.load(); err != nil {
		return err
	}
	var stack []string
	for _, addr := range c.frames {
		if addr != 0 {
			stack = append(stack, s.r.symbols.find(addr))
		}
	}
	c.Class = classify(stack)
	c.Stack = questioner(stack)
	if c.other {
		c.Class = Noise
	}
	return nil
}

// fold joins checks of one capability that were made for the same reason: by
// the same function, of whatever call and program.
func fold(all []*checks) []Capability {
	type reason struct{ name, ns, class, by string }
	found := map[reason]*Capability{}
	var order []*Capability
	for _, c := range all {
		by := ""
		if len(c.Stack) > 0 {
			by = c.Stack[0]
		}
		k := reason{c.Name, c.UserNS, c.Class, by}
		have := found[k]
		if have == nil {
			have = &Capability{Name: c.Name, UserNS: c.UserNS, Class: c.Class, Stack: c.Stack}
			found[k] = have
			order = append(order, have)
		}
		have.Granted += c.Granted
		have.Refused += c.Refused
		have.Syscalls = union(have.Syscalls, c.Syscalls)
		have.Programs = union(have.Programs, c.Programs)
	}
	slices.SortFunc(order, func(a, b *Capability) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.UserNS, a.UserNS),
			cmp.Compare(a.Class, b.Class), slices.Compare(a.Stack, b.Stack))
	})
	result := make([]Capability, 0, len(order))
	for _, c := range order {
		result = append(result, *c)
	}
	return result
}

func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// readDenials reads what was denied. Capabilities must have been read before.
func (s *Session) readDenials(rec *Recording) error {
	var key mapDenialKey
	var d mapDenial
	entries := s.r.coll.Maps["denials"].Iterate()
	for entries.Next(&key, &d) {
		if key.Session != s.number {
			continue
		}
		if denial := s.denial(&key, &d, rec); denial != nil {
			rec.Denials = append(rec.Denials, *denial)
		}
	}
	slices.SortFunc(rec.Denials, func(a, b Denial) int {
		return cmp.Or(cmp.Compare(a.After, b.After), cmp.Compare(a.Syscall, b.Syscall), cmp.Compare(a.Program, b.Program))
	})
	markHarmless(rec)
	return entries.Err()
}

// denial returns nil if the capabilities that were refused had nothing to do
// with the failure.
func (s *Session) denial(key *mapDenialKey, d *mapDenial, rec *Recording) *Denial {
	errno := unix.Errno(key.Error)
	denial := &Denial{
		Syscall: callName(key.Slot, key.Nr), ABI: abis[key.Slot/abiSlots].Short(),
		Args: d.Args, PID: int(d.PID), After: s.after(d.Time),
		By: "seccomp", Killed: key.Killed != 0, Count: d.Count,
	}
	denial.Program, denial.Thread = names(key.Program, d.Thread)
	if errno != 0 {
		denial.Errno = unix.ErrnoName(errno)
		if denial.Errno == "" {
			denial.Errno = fmt.Sprintf("errno %d", key.Error)
		}
	}
	if key.Reason == bySeccomp {
		return denial
	}
	denial.By = "capability"
	for _, c := range capability.Set(key.Refused).List() {
		if name := c.Short(); mayCause(errno, name) && !onlyNoise(rec, name, denial) {
			denial.Capabilities = append(denial.Capabilities, name)
		}
	}
	if len(denial.Capabilities) == 0 {
		return nil
	}
	return denial
}

// onlyNoise reports whether a capability was refused in such a call as
// bookkeeping only.
func onlyNoise(rec *Recording, name string, d *Denial) bool {
	noise := false
	for _, c := range rec.Capabilities {
		if c.Name != name || c.Refused == 0 || !slices.Contains(c.Syscalls, d.Syscall) || !slices.Contains(c.Programs, d.Program) {
			continue
		}
		if c.Class != Noise {
			return false
		}
		noise = true
	}
	return noise
}

// markHarmless classifies what was only refused, and without harm: the call
// succeeded, or failed for another reason.
func markHarmless(rec *Recording) {
	for i := range rec.Capabilities {
		c := &rec.Capabilities[i]
		if c.Class != Needed || c.Granted > 0 {
			continue
		}
		harmed := slices.ContainsFunc(rec.Denials, func(d Denial) bool {
			return slices.Contains(d.Capabilities, c.Name) && slices.Contains(c.Syscalls, d.Syscall)
		})
		if !harmed {
			c.Class = Opportunistic
		}
	}
}

func (s *Session) readLost(rec *Recording) error {
	lost := map[string]uint64{}
	for i, name := range lostNames {
		var n uint64
		if err := s.r.coll.Maps["lost"].Lookup(s.place*uint32(len(lostNames))+uint32(i), &n); err != nil {
			return err
		}
		if n > 0 {
			lost[name] = n
		}
	}
	missed, err := s.r.misses()
	if err != nil {
		return err
	}
	for name, n := range missed {
		if n > s.missed[name] {
			lost["missed "+strings.TrimSpace(name)] = n - s.missed[name]
		}
	}
	if len(lost) > 0 {
		rec.Lost = lost
	}
	return nil
}
