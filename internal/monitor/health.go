package monitor

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/brig-run/brig/internal/events"
	"github.com/brig-run/brig/internal/jsonline"
	"github.com/brig-run/brig/internal/runtime/inside"
)

// HealthFile is the name of the record of a container's health in its
// directory. Its JSON is Docker's State.Health.
const HealthFile = "health.json"

// The states of health, in Docker's words.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

const (
	probesKept = 5
	maxOutput  = 4096 // bytes kept of what a probe writes
)

// probe is one look at the container's health.
type probe struct {
	start, end time.Time
	code       int // -1 if it did not end in time, or could not be run
	output     string
}

// health finds out whether the container does its work.
type health struct {
	m       *container
	h       *Health
	program []byte // of the probe, as the engine made it: a run changes it
	fds     []int  // namespace of process IDs, then those of the registers
	begin   time.Time

	status  string
	failing int
	log     []probe
}

// watchHealth begins to look. The descriptors stay open as long as this process.
func (m *container) watchHealth(payload []byte, fds []int) error {
	h, err := decodeHealth(payload)
	if err == nil && len(fds) != 1+len(h.Regs)+btoi(h.HasPIDNS) {
		err = errShort
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	program := make([]byte, h.Size)
	n, err := syscall.Pread(fds[0], program, 0)
	syscall.Close(fds[0])
	if err == nil && n != h.Size {
		err = errShort
	}
	if err != nil {
		closeAll(fds[1:])
		return err
	}
	x := &health{m: m, h: h, program: program, fds: fds[1:], begin: time.Now(), status: HealthStarting}
	go x.loop()
	return nil
}

// noHealth records that nobody will look, because the command that started the
// container was killed before it could say how.
func (m *container) noHealth() {
	now := time.Now()
	x := &health{m: m, status: HealthStarting, h: &Health{Retries: 1}}
	x.failed(probe{now, now, -1, "the command that started the container ended before the health check was set up; restart the container"})
	x.write()
}

func (x *health) loop() {
	for {
		time.Sleep(x.pause())
		x.m.mu.Lock()
		ended := x.m.exited
		x.m.mu.Unlock()
		if ended {
			return
		}
		if frozen(x.m.start.Cgroups) {
			continue // a paused container cannot answer
		}
		p := x.run()
		if p.code != 0 && frozen(x.m.start.Cgroups) {
			continue
		}
		before := x.status
		if p.code == 0 {
			x.status, x.failing = HealthHealthy, 0
		} else if x.status != HealthStarting || p.start.Sub(x.begin) >= time.Duration(x.h.StartPeriod) {
			x.failing++
		}
		x.failed(p)
		x.write()
		if x.status != before {
			x.m.event("health_status: " + x.status)
		}
	}
}

// failed adds a probe to the log, and draws the conclusion.
func (x *health) failed(p probe) {
	if x.log = append(x.log, p); len(x.log) > probesKept {
		x.log = append(x.log[:0], x.log[1:]...)
	}
	if p.code != 0 && x.failing >= x.h.Retries {
		x.status = HealthUnhealthy
	}
}

// pause is the time to the next look: a container that starts is looked at more
// often.
func (x *health) pause() time.Duration {
	if x.status == HealthStarting && x.h.StartInterval > 0 && time.Since(x.begin) < time.Duration(x.h.StartPeriod) {
		return time.Duration(x.h.StartInterval)
	}
	return time.Duration(x.h.Interval)
}

// run runs the probe once.
func (x *health) run() probe {
	p := probe{start: time.Now(), code: -1}
	defer func() { p.end = time.Now() }()
	fail := func(err error) probe {
		p.output, p.end = err.Error(), time.Now()
		return p
	}
	r, w, err := pipe()
	if err != nil {
		return fail(err)
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		closeAll([]int{r, w})
		return fail(err)
	}
	pid, done, err := x.spawn(null, w)
	closeAll([]int{null, w})
	syscall.SetNonblock(r, true)
	out := os.NewFile(uintptr(r), "output")
	defer out.Close()
	if err != nil {
		p.code = 126
		if s, ok := err.(*inside.StepError); ok && s.Errno == syscall.ENOENT {
			p.code = 127
		}
		return fail(err)
	}
	output := make(chan string, 1)
	go func() { output <- readProbe(out) }()
	timeout := time.NewTimer(time.Duration(x.h.Timeout))
	defer timeout.Stop()
	select {
	case p.code = <-done:
		out.SetReadDeadline(time.Now().Add(time.Second)) // others may hold it open
		p.output = <-output
	case <-timeout.C:
		// It cannot have been reaped and its number given away: reap tells.
		x.m.signal(pid, syscall.SIGKILL)
		out.SetReadDeadline(time.Now())
		p.output = "Health check exceeded timeout (" + time.Duration(x.h.Timeout).String() + ")"
		if s := <-output; s != "" {
			p.output += ": " + s
		}
		if !frozen(x.m.start.Cgroups) {
			<-done
		}
	}
	p.end = time.Now()
	return p
}

// spawn starts the probe's process.
func (x *health) spawn(null, w int) (pid int, done <-chan int, err error) {
	runtime.LockOSThread() // the child dies with this thread until its execve
	defer runtime.UnlockOSThread()
	p, err := inside.Load(x.program)
	if err != nil {
		return 0, nil, err
	}
	defer p.Unmap()
	clone := inside.Clone{PIDNS: -1, CgroupFD: x.m.cgroup, Forks: x.h.Forks}
	rest := x.fds
	if x.h.HasPIDNS {
		clone.PIDNS, rest = rest[0], rest[1:]
	}
	for i, r := range x.h.Regs {
		p.SetReg(r, uint64(rest[i]))
	}
	p.SetReg(inside.RegStdin, uint64(null))
	p.SetReg(inside.RegStdout, uint64(w))
	p.SetReg(inside.RegStderr, uint64(w))
	return x.m.child(p, clone)
}

// readProbe reads what a probe writes, and keeps the beginning.
func readProbe(f *os.File) string {
	var kept []byte
	buf := make([]byte, maxOutput)
	for {
		n, err := f.Read(buf)
		kept = append(kept, buf[:min(n, maxOutput+1-len(kept))]...)
		if err != nil {
			break
		}
	}
	if len(kept) > maxOutput {
		return string(kept[:maxOutput]) + "..."
	}
	return string(kept)
}

func (x *health) write() {
	b := append([]byte(`{"Status":"`), x.status...)
	b = append(b, `","FailingStreak":`...)
	b = strconv.AppendInt(b, int64(x.failing), 10)
	b = append(b, `,"Log":[`...)
	for i, p := range x.log {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"Start":"`...)
		b = p.start.AppendFormat(b, time.RFC3339Nano)
		b = append(b, `","End":"`...)
		b = p.end.AppendFormat(b, time.RFC3339Nano)
		b = append(b, `","ExitCode":`...)
		b = strconv.AppendInt(b, int64(p.code), 10)
		b = append(b, `,"Output":`...)
		b = jsonline.AppendString(b, p.output)
		b = append(b, '}')
	}
	writeRecord(x.m.start.Dir, HealthFile, pad(append(b, "]}"...)))
}

// frozen says whether the container is paused.
func frozen(cgroups []string) bool {
	for _, dir := range cgroups {
		for _, f := range [][2]string{{"/cgroup.freeze", "1"}, {"/freezer.state", "FR"}} {
			if b, err := os.ReadFile(dir + f[0]); err == nil && strings.HasPrefix(string(b), f[1]) {
				return true
			}
		}
	}
	return false
}

// event writes what happened to the container into the log of events.
func (m *container) event(action string, more ...string) {
	if m.start.Events == "" {
		return
	}
	m.mu.Lock()
	attributes := m.start.Attributes
	m.mu.Unlock()
	if len(more) > 0 {
		attributes += "," + jsonline.Members(more...)
	}
	dir := m.start.Dir
	events.Append(m.start.Events, events.Event{Type: "container", Action: action, ID: dir[strings.LastIndexByte(dir, '/')+1:], Attributes: attributes})
}
