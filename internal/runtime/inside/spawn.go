package inside

import (
	"errors"
	"runtime"
	"syscall"
	"unsafe"
)

// Points at which a program asks its parent for something that only the parent
// can do (Builder.Ask). The child waits for the answer.
const (
	AskCgroup   = 'g' // put the child in its cgroup
	AskMaps     = 'm' // write the maps of the user namespace that the child made
	AskOffsets  = 'o' // set the clocks of the time namespace that the child made
	AskForked   = 'p' // a sibling goes on: take note of its process ID
	AskSetup    = 'c' // what has to be done from outside to a process in its namespaces
	AskHooks    = 'h' // run the hooks that belong before pivot_root
	AskTerminal = 't' // take the master of the terminal, whose number is in a register
	AskReady    = 'w' // all is done up to the user's program; note that, and let go
)

// granted is the parent's answer; another byte, or none, ends the child.
const granted = '+'

// Ask emits a question to the parent. The parent's refusal ends the child.
func (b *Builder) Ask(point byte) {
	buf := b.Bytes([]byte{point})
	b.Call(syscall.SYS_WRITE, R(RegDone), buf, V(1))
	got := b.NewReg()
	b.Call(syscall.SYS_READ, R(RegDone), buf, V(1)).To(got)
	b.Pseudo(Expect, R(got), V(1), V(int(syscall.ECANCELED)))
	b.Pseudo(ExpectByte, buf, V(granted), V(int(syscall.ECANCELED)))
}

// StepError says at which step of its program a child gave up.
type StepError struct {
	Tag   uint32 // index of the step's message, Builder.Tags
	Errno syscall.Errno
}

func (e *StepError) Error() string { return "start failed: " + e.Errno.Error() }

// Spawn clones a child, answers its questions by calling ask (nil grants all),
// and returns when the child has executed the user's program, with its process
// ID. cloned, if not nil, is called with that ID while the child still works.
//
// A child that fails has been waited for; the error is then ask's, or a
// *StepError. The calling thread must be locked and must live on: the child
// dies with it until it executes its program.
func (p *Program) Spawn(c Clone, cloned func(pid int), ask func(point byte, pid int) error) (int, error) {
	s, err := p.Begin(c, cloned, ask)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if err := s.Run(0); err != nil {
		return 0, err
	}
	return s.PID, nil
}

// Spawning is a child on its way through a program.
type Spawning struct {
	PID int // of the child, or of the sibling that took its place; 0 if neither is left

	program *Program
	line    int // the parent's end of the line to the child
	done    bool
	maker   int // a child that will be replaced by its sibling, to be waited for
	cloned  func(pid int)
	ask     func(point byte, pid int) error
}

// Begin clones the child. The caller calls Run, and Close.
func (p *Program) Begin(c Clone, cloned func(pid int), ask func(point byte, pid int) error) (*Spawning, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.New("make the line to the child: " + err.Error())
	}
	p.SetReg(RegDone, uint64(pair[1]))
	p.header().hangup = uint32(pair[0]) + 1
	pid, err := p.Start(c)
	syscall.Close(pair[1])
	if err != nil {
		syscall.Close(pair[0])
		return nil, err
	}
	s := &Spawning{PID: pid, program: p, line: pair[0], cloned: cloned, ask: ask}
	if c.Forks {
		s.maker = pid
	} else if cloned != nil {
		cloned(pid)
	}
	return s, nil
}

// Run answers the child's questions until it executes its program, or until it
// has asked the question until (then the answer is still owed, to Grant).
func (s *Spawning) Run(until byte) error {
	for {
		point, ok := s.question()
		if s.maker != 0 && (!ok || point == AskForked) {
			s.replaced()
		}
		if !ok {
			s.done = true
			return s.end()
		}
		if until != 0 && point == until {
			return nil
		}
		if s.ask != nil {
			if err := s.ask(point, s.PID); err != nil {
				s.Abort()
				return err
			}
		}
		s.Grant()
	}
}

// Done says whether the line has ended: Run will not return at a question.
func (s *Spawning) Done() bool { return s.done }

// Grant answers the question at which Run has returned.
func (s *Spawning) Grant() { s.write(granted) }

// Abort ends the child and waits for its end.
func (s *Spawning) Abort() {
	s.Close()
	if s.maker != 0 {
		syscall.Kill(s.maker, syscall.SIGKILL)
		s.replaced()
	}
	if s.PID != 0 {
		syscall.Kill(s.PID, syscall.SIGKILL)
		waitFor(s.PID)
	}
}

// Close lets go of the line. A child that still waits for an answer ends.
func (s *Spawning) Close() {
	if s.line >= 0 {
		syscall.Close(s.line)
		s.line = -1
	}
}

// replaced waits for the first child, which ends once it has made its sibling
// (or failed), and takes note of that.
func (s *Spawning) replaced() {
	waitFor(s.maker)
	s.maker, s.PID = 0, int(s.program.Reg(RegChild))
	if s.PID != 0 && s.cloned != nil {
		s.cloned(s.PID)
	}
}

// end is called when the line has ended: by an execve, or by the child's death.
func (s *Spawning) end() error {
	tag, errno, failed := s.program.Failure()
	switch {
	case failed:
		if s.PID != 0 {
			waitFor(s.PID)
		}
		return &StepError{tag, errno}
	case s.PID == 0:
		return errors.New("the child ended before it could start")
	}
	return nil
}

func (s *Spawning) question() (byte, bool) {
	var b [1]byte
	for {
		n, err := syscall.Read(s.line, b[:])
		if err == syscall.EINTR {
			continue
		}
		return b[0], err == nil && n == 1
	}
}

func (s *Spawning) write(b byte) {
	buf := [1]byte{b}
	// The child may be dead: then its end is read next.
	syscall.Syscall6(syscall.SYS_SENDTO, uintptr(s.line), uintptr(unsafe.Pointer(&buf[0])), 1, syscall.MSG_NOSIGNAL, 0, 0)
	runtime.KeepAlive(&buf)
}

func waitFor(pid int) (ws syscall.WaitStatus) {
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			return ws
		}
	}
}
