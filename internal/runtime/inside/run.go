package inside

import (
	"errors"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Program is a mapped program, ready to be started once.
type Program struct {
	mem  []byte
	base unsafe.Pointer
}

// Map maps the program in file descriptor fd (a memfd of size bytes) shared,
// so that the child's report reaches the parent, and turns offsets into
// addresses.
func Map(fd, size int) (*Program, error) {
	mem, err := syscall.Mmap(fd, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, errors.New("map the start program: " + err.Error())
	}
	p := &Program{mem: mem, base: unsafe.Pointer(&mem[0])}
	if err := p.relocate(); err != nil {
		p.Unmap()
		return nil, err
	}
	return p, nil
}

// Load is Map of a copy of the program: of one that is started again and again.
func Load(program []byte) (*Program, error) {
	if len(program) < headerSize {
		return nil, errors.New("start program: truncated")
	}
	mem, err := syscall.Mmap(-1, 0, len(program), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_ANON)
	if err != nil {
		return nil, errors.New("map the start program: " + err.Error())
	}
	copy(mem, program)
	p := &Program{mem: mem, base: unsafe.Pointer(&mem[0])}
	if err := p.relocate(); err != nil {
		p.Unmap()
		return nil, err
	}
	return p, nil
}

func (p *Program) header() *header { return (*header)(unsafe.Pointer(&p.mem[0])) }

func (p *Program) relocate() error {
	if len(p.mem) < headerSize || p.header().magic != magic {
		return errors.New("start program: not made by this version of brig")
	}
	h := p.header()
	end := uint64(len(p.mem))
	if uint64(h.opsOff)+uint64(h.nops)*uint64(opSize) > end || uint64(h.relOff)+4*uint64(h.nreloc) > end {
		return errors.New("start program: truncated")
	}
	for i := range h.nops {
		op := p.op(i)
		for j := range op.Kind {
			if op.Kind[j] == Ptr {
				if uint64(op.Arg[j]) > end {
					return errors.New("start program: address out of range")
				}
				op.Arg[j] += int64(uintptr(p.base))
				op.Kind[j] = Imm
			}
		}
	}
	for i := range h.nreloc {
		at := *(*uint32)(unsafe.Add(p.base, h.relOff+4*i))
		if uint64(at)+8 > end {
			return errors.New("start program: relocation out of range")
		}
		*(*uint64)(unsafe.Add(p.base, at)) += uint64(uintptr(p.base))
	}
	return nil
}

func (p *Program) op(i uint32) *Op {
	return (*Op)(unsafe.Add(p.base, int(p.header().opsOff)+int(i)*opSize))
}

// SetReg presets a register, mostly with a file descriptor number.
func (p *Program) SetReg(r uint8, v uint64) { p.header().regs[r] = v }

// Reg reads a register, as the child left it.
func (p *Program) Reg(r uint8) uint64 { return p.header().regs[r] }

// Failure reports the step at which the child gave up: the index of its
// message and the error. ok is false when it did not.
func (p *Program) Failure() (tag uint32, errno syscall.Errno, ok bool) {
	h := p.header()
	return h.failTag, syscall.Errno(h.failErr), h.failed != 0
}

// Progress is the last Stage that the child passed.
func (p *Program) Progress() uint32 { return atomic.LoadUint32(&p.header().stage) }

// Release ends the child's Hold.
func (p *Program) Release() { atomic.StoreUint32(&p.header().release, 1) }

// Unmap releases the mapping. The child keeps its own until execve.
func (p *Program) Unmap() {
	if p.mem != nil {
		syscall.Munmap(p.mem)
		p.mem = nil
	}
}

// Clone says what kind of process Start makes.
type Clone struct {
	Flags    uintptr // CLONE_NEW* flags, clone(2)
	PIDNS    int     // descriptor of a PID namespace that the child joins, or -1
	CgroupFD int     // cgroup v2 directory for CLONE_INTO_CGROUP, or -1
	Forks    bool    // the program has a Fork, so the child will be replaced by its sibling
}

// cloneArgs is struct clone_args of clone3(2), up to cgroup (88 bytes).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls, setTID, setTIDSize     uint64
	cgroup                                        uint64
}

const (
	sysClone3       = 435 // the same on all architectures
	sysOpenat2      = 437
	cloneIntoCgroup = 0x200000000
	allSignals      = 8 // bytes of the kernel's sigset_t
)

// Start clones a child that runs the program, and returns its process ID.
// The calling thread must be locked to the OS thread whose death shall end the
// child (PR_SET_PDEATHSIG counts threads).
func (p *Program) Start(c Clone) (pid int, err error) {
	args := cloneArgs{flags: uint64(c.Flags), exitSignal: uint64(syscall.SIGCHLD)}
	if c.CgroupFD >= 0 {
		args.flags |= cloneIntoCgroup
		args.cgroup = uint64(c.CgroupFD)
	}
	self := -1
	if c.PIDNS >= 0 {
		if self, err = syscall.Open("/proc/thread-self/ns/pid", syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			return 0, errors.New("open the monitor's PID namespace: " + err.Error())
		}
		defer syscall.Close(self)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, step, e := cloneAndRun(p.base, &args, c.PIDNS, self)
	if e != 0 {
		return 0, errors.New([...]string{"clone into new namespaces: ", "join PID namespace: ", "return to the monitor's PID namespace: "}[step] + e.Error())
	}
	return int(r), nil
}

// cloneAndRun blocks all signals, so that no handler of the Go runtime runs in
// the child, and clones. Between joining another PID namespace for children
// and returning from it, no thread can be made here (the kernel would refuse),
// which holds because nothing but these system calls runs on this thread.
//
//go:nosplit
//go:norace
func cloneAndRun(base unsafe.Pointer, args *cloneArgs, pidns, self int) (pid uintptr, step int, err syscall.Errno) {
	all := ^uint64(0)
	var old uint64
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2 /* SIG_SETMASK */, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), allSignals, 0, 0)
	if pidns >= 0 {
		if _, _, e := syscall.RawSyscall(sysSetns, uintptr(pidns), syscall.CLONE_NEWPID, 0); e != 0 {
			step, err = 1, e
		}
	}
	if err == 0 {
		pid, err = rawClone(args)
		if err == 0 && pid == 0 {
			interpret(base)
		}
		if pidns >= 0 {
			if _, _, e := syscall.RawSyscall(sysSetns, uintptr(self), syscall.CLONE_NEWPID, 0); e != 0 {
				step, err = 2, e
			}
		}
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&old)), 0, allSignals, 0, 0)
	return pid, step, err
}

// rawClone prefers clone3, and falls back to clone where a sandbox around us
// answers ENOSYS to it (as Docker's default profile does for new flags).
//
//go:nosplit
//go:norace
func rawClone(args *cloneArgs) (uintptr, syscall.Errno) {
	r, _, e := syscall.RawSyscall(sysClone3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if e == syscall.ENOSYS && args.flags&cloneIntoCgroup == 0 {
		r, _, e = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(args.flags|args.exitSignal), 0, 0, 0, 0, 0)
	}
	return r, e
}

// interpret performs the program. It never returns: either execve replaces the
// process, or a step fails and the process ends.
//
//go:nosplit
//go:norace
func interpret(base unsafe.Pointer) {
	h := (*header)(base)
	ops := unsafe.Add(base, h.opsOff)
	if h.hangup != 0 {
		// The child's own copy would keep the line open when the parent is
		// killed, which may be before PR_SET_PDEATHSIG is set.
		syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(h.hangup-1), 0, 0)
	}
	for pc := int64(0); uint64(pc) < uint64(h.nops); pc++ {
		op := (*Op)(unsafe.Add(ops, pc*int64(opSize)))
		var e syscall.Errno
		var r uintptr
		if op.Nr < PseudoBase {
			r, _, e = syscall.RawSyscall6(uintptr(op.Nr), value(h, op, 0), value(h, op, 1), value(h, op, 2),
				value(h, op, 3), value(h, op, 4), value(h, op, 5))
			if again(h, op, e) {
				pc--
				continue
			}
		} else {
			r, e = pseudo(h, op, &pc)
		}
		if e == 0 {
			if op.Dst != 0 {
				h.regs[op.Dst-1] = uint64(r)
			}
			continue
		}
		if !expected(op, e, &pc) {
			fail(h, op, e, pc)
		}
	}
	fail(h, (*Op)(ops), syscall.ENOSYS, int64(h.nops))
}

//go:nosplit
//go:norace
func value(h *header, op *Op, i int) uintptr {
	if op.Kind[i] == Reg {
		return uintptr(h.regs[uint8(op.Arg[i])])
	}
	return uintptr(op.Arg[i])
}

//go:nosplit
//go:norace
func pseudo(h *header, op *Op, pc *int64) (uintptr, syscall.Errno) {
	a, b := value(h, op, 0), value(h, op, 1)
	switch op.Nr {
	case Jump:
		*pc += int64(a)
	case Expect:
		if a != b {
			return 0, syscall.Errno(op.Arg[2])
		}
	case ExpectByte:
		if *(*byte)(at(a)) != byte(b) {
			return 0, syscall.Errno(op.Arg[2])
		}
	case Set:
		return a, 0
	case FailIf:
		if a == b {
			return 0, syscall.Errno(op.Arg[2])
		}
	case Stage:
		atomic.StoreUint32(&h.stage, uint32(a))
	case Store32:
		*(*uint32)(at(a)) = uint32(b)
	case Fork:
		return 0, fork(h, a)
	case Hold:
		return 0, hold(h, syscall.Errno(op.Arg[2]))
	default:
		return 0, syscall.ENOSYS
	}
	return 0, 0
}

// fork makes a sibling, a child of the parent (CLONE_PARENT), which goes on with
// the program, and ends this process. What a process has given its children by
// unshare or setns (PID and time namespaces), or may give them only once it is
// in a user namespace, the sibling gets.
//
//go:nosplit
//go:norace
func fork(h *header, flags uintptr) syscall.Errno {
	pid, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, flags|syscall.CLONE_PARENT|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 || pid == 0 {
		return e
	}
	h.regs[RegChild] = uint64(pid)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// hold spins until the parent calls Release. It is for the moment after a
// filter was loaded, when no system call may be made; the parent answers at
// once, and the bound, some seconds, is for one that was killed.
//
//go:nosplit
//go:norace
func hold(h *header, late syscall.Errno) syscall.Errno {
	for range uint64(1) << 34 {
		if atomic.LoadUint32(&h.release) != 0 {
			return 0
		}
	}
	return late
}

// again says whether a system call is to be repeated. With all signals blocked
// only a tracer causes EINTR. openat2 answers EAGAIN when anything on the
// host was renamed or mounted while it resolved a "..", openat2(2); the bound
// keeps a storm of renames from holding the start forever.
//
//go:nosplit
//go:norace
func again(h *header, op *Op, e syscall.Errno) bool {
	if e != syscall.EINTR && (e != syscall.EAGAIN || op.Nr != sysOpenat2) {
		return false
	}
	h.retries++
	return h.retries < 1<<20
}

// at makes a pointer of an address in the program's mapping, which is not Go
// memory.
//
//go:nosplit
//go:norace
func at(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

//go:nosplit
//go:norace
func expected(op *Op, e syscall.Errno, pc *int64) bool {
	for i := uint8(0); i < op.NErr && i < uint8(len(op.Err)); i++ {
		if r := &op.Err[i]; r.Errno == AnyErrno || syscall.Errno(r.Errno) == e {
			*pc += int64(r.Jump)
			return true
		}
	}
	return false
}

// fail publishes the failed step in shared memory and ends the process. The
// filter may already be loaded and may forbid exit_group; then the fault on
// address zero, whose handler is the default one by now, ends it.
//
//go:nosplit
//go:norace
func fail(h *header, op *Op, e syscall.Errno, pc int64) {
	h.failTag, h.failErr, h.failPC = op.Tag, uint32(e), uint32(pc)
	h.failed = 1
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
		*(*int)(at(8)) = 0
	}
}

// Open maps the program in a file that Map has mapped in another process, to
// see how far its child has come. It cannot be started.
func Open(name string) (*Program, error) {
	fd, err := syscall.Open(name, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.New("open the start program " + name + ": " + err.Error())
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Size < int64(headerSize) {
		return nil, errors.New("start program " + name + ": truncated")
	}
	mem, err := syscall.Mmap(fd, 0, int(st.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, errors.New("map the start program: " + err.Error())
	}
	p := &Program{mem: mem, base: unsafe.Pointer(&mem[0])}
	if p.header().magic != magic {
		p.Unmap()
		return nil, errors.New("start program " + name + ": not made by this version of brig")
	}
	return p, nil
}

// ReadProgress reads the last Stage that the child of a program in a file has
// passed.
func ReadProgress(name string) (uint32, error) {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	var b [4]byte
	n, err := syscall.Pread(fd, b[:], int64(unsafe.Offsetof(header{}.stage)))
	if err == nil && n < len(b) {
		err = syscall.EIO
	}
	if err != nil {
		return 0, err
	}
	return *(*uint32)(unsafe.Pointer(&b)), nil
}
