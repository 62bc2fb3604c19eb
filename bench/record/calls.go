package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// loopMode makes this program the one that is measured.
const loopMode = "loop"

// parts is in how many a loop is timed.
const parts = 100

// loop waits for a line, makes n calls, and prints how many nanoseconds each
// took: in the part that is slower than a tenth of all, because what a virtual
// machine's neighbours take is no price of a call.
func loop(n string) {
	calls, _ := strconv.Atoi(n)
	runtime.LockOSThread()
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	var took [parts]time.Duration
	each := max(calls/parts, 1)
	for i := range took {
		start := time.Now()
		for range each {
			unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took[:])
	fmt.Println(float64(took[parts/10].Nanoseconds()) / float64(each))
}

// looper is a process in loop mode.
type looper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startLoop starts a loop, under a tracer if there are words before it.
func startLoop(calls int, before ...string) (*looper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	words := append(before, self, loopMode, strconv.Itoa(calls))
	l := &looper{cmd: exec.Command(words[0], words[1:]...)}
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.out = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := l.out.ReadString('\n'); line != "ready\n" {
		l.cmd.Wait()
		return nil, fmt.Errorf("%s: said %q: %w", strings.Join(words, " "), line, err)
	}
	return l, nil
}

// run lets it loop, and returns its figure.
func (l *looper) run() (float64, error) {
	defer l.cmd.Wait()
	fmt.Fprintln(l.in)
	line, err := l.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
}

// recording is a brig record under way.
type recording struct {
	cmd    *exec.Cmd
	attach time.Duration // from its start until it recorded
}

func (b *bench) record(pid int) (*recording, error) {
	cmd := exec.Command(b.brig, "record", "--pid", strconv.Itoa(pid), "--format", "json")
	told, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(told).ReadString('\n')
	if !strings.HasPrefix(line, "recording ") {
		cmd.Wait()
		return nil, fmt.Errorf("brig record: %s %w", line, err)
	}
	return &recording{cmd, time.Since(start)}, nil
}

func (r *recording) stop() error {
	r.cmd.Process.Signal(os.Interrupt)
	return r.cmd.Wait()
}

// callBench measures system calls.
func (b *bench) callBench() (func() error, func(), error) {
	return func() error {
		for _, measure := range []func() error{b.callAlone, b.callAtFloor, b.callRecorded, b.callBeside, b.callTraced, b.callNotified} {
			if err := measure(); err != nil {
				return err
			}
		}
		return nil
	}, func() {}, nil
}

func (b *bench) callAlone() error {
	l, err := startLoop(b.calls)
	if err != nil {
		return err
	}
	return b.addRun("call alone", l)
}

func (b *bench) callAtFloor() error {
	l, err := startLoop(b.calls)
	if err != nil {
		return err
	}
	return atFloor(func() error { return b.addRun("call at the floor", l) })
}

func (b *bench) addRun(name string, l *looper) error {
	ns, err := l.run()
	b.add(name, ns)
	return err
}

func (b *bench) callRecorded() error {
	l, err := startLoop(b.calls)
	if err != nil {
		return err
	}
	r, err := b.record(l.cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.add("attach", float64(r.attach.Microseconds())/1e3)
	if err := b.addRun("call recorded", l); err != nil {
		return err
	}
	return r.stop()
}

// callBeside records another process.
func (b *bench) callBeside() error {
	other, err := startLoop(1)
	if err != nil {
		return err
	}
	r, err := b.record(other.cmd.Process.Pid)
	if err != nil {
		return err
	}
	l, err := startLoop(b.calls)
	if err != nil {
		return err
	}
	if err := b.addRun("call beside", l); err != nil {
		return err
	}
	if _, err := other.run(); err != nil {
		return err
	}
	return r.stop()
}

func (b *bench) callTraced() error {
	l, err := startLoop(b.calls/100, "strace", "-f", "-c", "--seccomp-bpf", "-o", "/dev/null")
	if err != nil {
		return err
	}
	return b.addRun("call strace", l)
}

// callNotified is a recording without privileges, by notifications.
func (b *bench) callNotified() error {
	l, err := startLoop(b.calls/100, b.brig, "record", "-o", "/dev/null")
	if err != nil {
		return err
	}
	return b.addRun("call notified", l)
}
