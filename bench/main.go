// Command start measures how long container engines take from fork to the end
// of a container that runs true: the wall time that a user's shell would see.
//
// All have the same to do: a root from busybox, seven mounts, new mount, PID,
// network, IPC, UTS and cgroup namespaces, a cgroup, Docker's 14 capabilities,
// moby's default seccomp profile, no network. Brig and podman do it from an
// image in their stores with a writable overlay and remove the container
// afterwards; crun and runc, which know no images, get a ready bundle with a
// plain directory, and so have less to do.
//
// Each round runs every engine once, in an order that rotates, so that drift
// of the machine meets all alike. In the second series each start comes after
// 150 ms of idle, as on a machine where containers start now and then.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// idle is how long the machine rests before a start of the second series.
const idle = 150 * time.Millisecond

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "", "scratch directory")
	flag.IntVar(&o.rounds, "n", 100, "rounds one after the other")
	flag.IntVar(&o.idleRounds, "idle-rounds", 40, "rounds with 150 ms of idle before each start")
	flag.StringVar(&o.format, "format", "table", "table or json")
	flag.BoolVar(&o.bridge, "bridge", false, "on a bridge with a published port; Brig and podman only")
	flag.StringVar(&o.only, "only", "", "engines to measure, comma-separated")
	flag.BoolVar(&o.runtimes, "runtimes", false, "measure OCI runtimes: run, create and start and delete, exec")
	flag.IntVar(&o.parallel, "parallel", 0, "with -runtimes: also start this many containers, 50 at a time")
	flag.Parse()
	do := run
	if o.runtimes {
		do = runtimes
	}
	if err := do(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	dir, format, only  string
	rounds, idleRounds int
	bridge             bool
	runtimes           bool
	parallel           int
}

// report is what is printed as JSON.
type report struct {
	Kernel  string   `json:"kernel"`
	CPUs    int      `json:"cpus"`
	Cgroups string   `json:"cgroups"`
	Series  []series `json:"series"`
	Memory  []memory `json:"memory"`
}

// series is one way to measure all engines.
type series struct {
	Name    string   `json:"name"`
	Rounds  int      `json:"rounds"`
	Engines []result `json:"engines"`
}

// result holds milliseconds.
type result struct {
	Engine string  `json:"engine"`
	Median float64 `json:"medianMs"`
	P10    float64 `json:"p10Ms"`
	P90    float64 `json:"p90Ms"`
	CPU    float64 `json:"cpuMs"` // median of user and system time, of children too
	// BrigRatio is Brig's median divided by this one's.
	BrigRatio float64 `json:"brigRatio"`
}

func run(o options) error {
	if o.dir == "" || os.Geteuid() != 0 {
		return errors.New("run bench/start.sh as root")
	}
	if o.format != "table" && o.format != "json" {
		return fmt.Errorf("-format %q: use table or json", o.format)
	}
	engines, err := prepare(o)
	for _, e := range engines {
		defer e.close()
	}
	if err != nil {
		return err
	}
	rep := report{CPUs: runtime.NumCPU(), Cgroups: "v1"}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		rep.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		rep.Cgroups = "v2"
	}
	for _, s := range []struct {
		name   string
		rounds int
		pause  time.Duration
	}{{"loop", o.rounds, 0}, {"after 150 ms idle", o.idleRounds, idle}} {
		if s.rounds == 0 {
			continue
		}
		results, err := measure(engines, s.rounds, s.pause)
		if err != nil {
			return err
		}
		rep.Series = append(rep.Series, series{s.name, s.rounds, results})
	}
	for _, e := range engines {
		if e.detach == nil || o.bridge {
			continue
		}
		m, err := measureMemory(e)
		if err != nil {
			return err
		}
		rep.Memory = append(rep.Memory, m)
	}
	if o.format == "json" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(rep)
	}
	return rep.print()
}

// sample is one start.
type sample struct{ wall, cpu time.Duration }

// warmUp is how many rounds are not counted.
const warmUp = 3

func measure(engines []*engine, rounds int, pause time.Duration) ([]result, error) {
	samples := make([][]sample, len(engines))
	for round := -warmUp; round < rounds; round++ {
		for i := range engines {
			n := (i + round + warmUp) % len(engines)
			time.Sleep(pause)
			s, err := engines[n].once(round + warmUp)
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				samples[n] = append(samples[n], s)
			}
		}
	}
	var results []result
	for i, e := range engines {
		results = append(results, summary(e.name, samples[i]))
	}
	for i := range results {
		if results[0].Engine == "brig" {
			results[i].BrigRatio = results[0].Median / results[i].Median
		}
	}
	return results, nil
}

func summary(name string, samples []sample) result {
	var wall, cpu []float64
	for _, s := range samples {
		wall = append(wall, s.wall.Seconds()*1000)
		cpu = append(cpu, s.cpu.Seconds()*1000)
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	return result{Engine: name, Median: quantile(wall, 0.5), P10: quantile(wall, 0.1), P90: quantile(wall, 0.9), CPU: quantile(cpu, 0.5)}
}

// quantile of sorted values, between the two nearest.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// once starts the engine and waits for its end. It does no more between the
// two looks at the clock than fork, exec and wait.
func (e *engine) once(round int) (sample, error) {
	if e.sequence == nil {
		return e.execute(e.command(round))
	}
	var sum sample
	for _, args := range e.sequence(round) {
		s, err := e.execute(args)
		if err != nil {
			return sample{}, err
		}
		sum.wall, sum.cpu = sum.wall+s.wall, sum.cpu+s.cpu
	}
	return sum, nil
}

// steps runs commands whose time is of no interest.
func (e *engine) steps(list [][]string) error {
	for _, args := range list {
		if _, err := e.execute(args); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) execute(args []string) (sample, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return sample{}, err
	}
	attr := &os.ProcAttr{Files: []*os.File{e.null, e.null, e.log}, Env: os.Environ()}
	begin := time.Now()
	p, err := os.StartProcess(path, args, attr)
	if err != nil {
		return sample{}, err
	}
	state, err := p.Wait()
	wall := time.Since(begin)
	if err != nil {
		return sample{}, err
	}
	if !state.Success() {
		log, _ := os.ReadFile(e.log.Name())
		return sample{}, fmt.Errorf("%s: %s\n%s", strings.Join(args, " "), state, log)
	}
	return sample{wall, state.UserTime() + state.SystemTime()}, nil
}

func (r *report) print() error {
	fmt.Printf("Linux %s, %d CPUs, cgroup %s. Milliseconds from fork to the end of a container that runs true.\n", r.Kernel, r.CPUs, r.Cgroups)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, s := range r.Series {
		fmt.Fprintf(w, "\n%s\tmedian\tp10\tp90\tCPU\tbrig is\t\n", s.Name)
		for _, e := range s.Engines {
			ratio := "-"
			if e.BrigRatio > 0 {
				ratio = fmt.Sprintf("%.2f x", e.BrigRatio)
			}
			fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t\n", e.Engine, e.Median, e.P10, e.P90, e.CPU, ratio)
		}
		fmt.Fprintf(w, "(%d rounds)\t\t\t\t\t\t\n", s.Rounds)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Memory) == 0 {
		return nil
	}
	fmt.Print("\nMemory of the process that stays with a detached container, KiB:\n")
	for _, m := range r.Memory {
		fmt.Fprintf(w, "%s\tRSS %d\tPSS %d\tprivate %d\tanonymous %d\t\n", m.Engine, m.RSS, m.PSS, m.Private, m.Anonymous)
	}
	return w.Flush()
}
