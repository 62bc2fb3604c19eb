package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// Health is what the health check found, in the shape of Docker's State.Health.
type Health struct {
	Status        string // starting, healthy or unhealthy
	FailingStreak int
	Log           []HealthProbe // the last ones, the newest last
}

// HealthProbe is one look at a container's health.
type HealthProbe struct {
	Start, End time.Time
	ExitCode   int // -1 if it did not end in time
	Output     string
}

// ReadHealth reads what the health check found; nil if the container has none,
// or was never started.
func (c *Container) ReadHealth() *Health {
	if c.Health == nil {
		return nil
	}
	b, err := os.ReadFile(c.file(monitor.HealthFile))
	h := &Health{}
	if err != nil || json.Unmarshal(b, h) != nil {
		return nil
	}
	return h
}

// watchHealth gives the monitor the program of the health check. That it cannot
// be made does not end the container: it is a warning, and the container is
// unhealthy.
func (s *starter) watchHealth(pid int) {
	err := s.planHealth(pid)
	if err == nil {
		return
	}
	if _, running := monitor.ProcessStart(pid); running {
		s.result.Warnings = append(s.result.Warnings, fmt.Sprintf("the health check cannot run: %v", err))
	}
}

func (s *starter) planHealth(pid int) error {
	c := s.c
	h := c.Health.WithDefaults()
	command, err := h.Command(c.Shell)
	if err != nil {
		return err
	}
	state, err := c.readState()
	if err != nil || state == nil || state.PID != pid {
		return errors.Join(err, errors.New("the container has ended"))
	}
	x := &execer{c: c, s: &State{State: *state, Status: StatusRunning}}
	defer x.close()
	root, err := x.root()
	if err != nil {
		return err
	}
	cfg, err := x.config(root, &spec.ExecOptions{Args: command})
	if err != nil {
		return err
	}
	cfg.OwnStreams = [3]bool{false, true, true} // the monitor makes pipes for them
	plan, err := x.plan(cfg)
	if err != nil {
		return err
	}
	defer plan.Close()
	msg := &monitor.Health{
		Exec:     monitor.Exec{Size: len(plan.Program), HasPIDNS: plan.PIDNS != nil, Forks: plan.Forks},
		Interval: int64(h.Interval), Timeout: int64(h.Timeout), StartPeriod: int64(h.StartPeriod), StartInterval: int64(h.StartInterval),
		Retries: h.Retries,
	}
	files := monitor.Files{PIDNS: plan.PIDNS}
	for _, f := range plan.Files {
		msg.Regs = append(msg.Regs, f.Reg)
		files.Regs = append(files.Regs, f.File)
	}
	if files.Program, err = programFile(plan.Program); err != nil {
		return err
	}
	x.keep(files.Program)
	client, err := s.booting.wait()
	if err != nil {
		return err
	}
	return client.WatchHealth(msg, files)
}
