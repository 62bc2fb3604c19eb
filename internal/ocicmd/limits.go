package ocicmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/brig-run/brig/internal/oci"
)

func updateCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	file := f.StringP("resources", "r", "", "file with linux.resources as JSON, or - for the standard input")
	text := map[string]*string{}
	for _, o := range [][2]string{
		{"blkio-weight", "weight of block I/O, 10 to 1000"},
		{"cpu-period", "length of a period, microseconds"}, {"cpu-quota", "time in each period, microseconds"},
		{"cpu-burst", "time that may be saved up, microseconds"}, {"cpu-share", "relative weight"},
		{"cpu-rt-period", "length of a real-time period, microseconds"}, {"cpu-rt-runtime", "real time in each period, microseconds"},
		{"cpuset-cpus", "processors"}, {"cpuset-mems", "memory nodes"}, {"cpu-idle", "1: only time that nobody else wants"},
		{"memory", "limit of memory, bytes"}, {"memory-reservation", "soft limit of memory, bytes"},
		{"memory-swap", "limit of memory and swap, bytes; -1 for none"},
		{"pids-limit", "limit of processes; -1 for none"},
		{"l3-cache-schema", "schema of the L3 cache (Intel RDT)"}, {"mem-bw-schema", "schema of memory bandwidth (Intel RDT)"},
	} {
		text[o[0]] = f.String(o[0], "", o[1])
	}
	return func(args []string) (int, error) {
		c, err := a.rt.Find(args[0])
		if err != nil {
			return 1, err
		}
		change, err := readResources(*file)
		if err != nil {
			return 1, err
		}
		u := &limitFlags{f: f, text: text, out: change}
		if err := u.apply(); err != nil {
			return 1, err
		}
		return 0, c.Update(change, u.rdt())
	}
}

func readResources(name string) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	if name == "" {
		return r, nil
	}
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("--resources: %w", err)
		}
		defer f.Close()
		in = f
	}
	if err := json.NewDecoder(in).Decode(r); err != nil {
		return nil, fmt.Errorf("--resources %s: %w", name, err)
	}
	return r, nil
}

// limitFlags puts the flags that were given over the resources of the file.
type limitFlags struct {
	f    *pflag.FlagSet
	text map[string]*string
	out  *specs.LinuxResources
	err  error
}

func (u *limitFlags) given(name string) bool { return u.f.Changed(name) }

func (u *limitFlags) number(name string) *int64 {
	if !u.given(name) {
		return nil
	}
	n, err := strconv.ParseInt(*u.text[name], 10, 64)
	return u.keep(name, n, err)
}

func (u *limitFlags) positive(name string) *uint64 {
	if !u.given(name) {
		return nil
	}
	n, err := strconv.ParseUint(*u.text[name], 10, 64)
	u.keep(name, 0, err)
	return &n
}

func (u *limitFlags) size(name string) *int64 {
	if !u.given(name) {
		return nil
	}
	if *u.text[name] == "-1" {
		return u.keep(name, -1, nil)
	}
	n, err := units.RAMInBytes(*u.text[name])
	return u.keep(name, n, err)
}

func (u *limitFlags) keep(name string, n int64, err error) *int64 {
	if err != nil {
		u.err = errors.Join(u.err, fmt.Errorf("--%s %q: want a number", name, *u.text[name]))
	}
	return &n
}

func put[T any](dst **T, src *T) {
	if src != nil {
		*dst = src
	}
}

func (u *limitFlags) apply() error {
	cpu, memory := &specs.LinuxCPU{}, &specs.LinuxMemory{}
	if u.out.CPU != nil {
		cpu = u.out.CPU
	}
	if u.out.Memory != nil {
		memory = u.out.Memory
	}
	put(&cpu.Period, u.positive("cpu-period"))
	put(&cpu.Quota, u.number("cpu-quota"))
	put(&cpu.Burst, u.positive("cpu-burst"))
	put(&cpu.Shares, u.positive("cpu-share"))
	put(&cpu.RealtimePeriod, u.positive("cpu-rt-period"))
	put(&cpu.RealtimeRuntime, u.number("cpu-rt-runtime"))
	put(&cpu.Idle, u.number("cpu-idle"))
	if u.given("cpuset-cpus") {
		cpu.Cpus = *u.text["cpuset-cpus"]
	}
	if u.given("cpuset-mems") {
		cpu.Mems = *u.text["cpuset-mems"]
	}
	put(&memory.Limit, u.size("memory"))
	put(&memory.Reservation, u.size("memory-reservation"))
	put(&memory.Swap, u.size("memory-swap"))
	u.out.CPU, u.out.Memory = cpu, memory
	if n := u.number("pids-limit"); n != nil {
		u.out.Pids = &specs.LinuxPids{Limit: n}
	}
	if n := u.positive("blkio-weight"); n != nil {
		w := uint16(min(*n, 1<<16-1))
		if u.out.BlockIO == nil {
			u.out.BlockIO = &specs.LinuxBlockIO{}
		}
		u.out.BlockIO.Weight = &w
	}
	return u.err
}

// rdt is what the flags say of Intel RDT; nil if nothing.
func (u *limitFlags) rdt() *specs.LinuxIntelRdt {
	if !u.given("l3-cache-schema") && !u.given("mem-bw-schema") {
		return nil
	}
	return &specs.LinuxIntelRdt{L3CacheSchema: *u.text["l3-cache-schema"], MemBwSchema: *u.text["mem-bw-schema"]}
}

// event is one line of "events".
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

func eventsCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	interval := f.Duration("interval", 5*time.Second, "time between figures")
	stats := f.Bool("stats", false, "print the figures once")
	return func(args []string) (int, error) {
		if *interval <= 0 {
			return 1, fmt.Errorf("--interval %v: must be positive", *interval)
		}
		c, err := a.rt.Find(args[0])
		if err != nil {
			return 1, err
		}
		out := json.NewEncoder(a.out)
		if *stats {
			s, err := c.Stats()
			if err != nil {
				return 1, err
			}
			return 0, out.Encode(event{"stats", c.ID, s})
		}
		return 0, a.follow(c, *interval, out)
	}
}

// follow prints figures and events until the container's end.
func (a *app) follow(c *oci.Container, interval time.Duration, out *json.Encoder) error {
	oom, err := c.OOMEvents()
	if err != nil {
		return err
	}
	ended, err := c.Ended()
	if err != nil {
		return err
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case _, ok := <-oom:
			if !ok {
				oom = nil
				continue
			}
			err = out.Encode(event{"oom", c.ID, nil})
		case <-tick.C:
			s, serr := c.Stats()
			if serr != nil {
				a.log.write("warning", serr.Error())
				continue
			}
			err = out.Encode(event{"stats", c.ID, s})
		case <-ended:
			return nil
		}
		if err != nil {
			return err
		}
	}
}
