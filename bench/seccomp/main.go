// Command seccomp compares Brig's compiler of seccomp filters with its peers:
// libseccomp, gVisor's and elastic's. All make a filter of Docker's default
// profile for its 14 capabilities, for the three x86 ABIs and, what all of them
// can, for x86-64 alone.
//
// Every measurement takes all compilers in turn, in an order that changes, so
// that drift of the machine meets all alike; figures are medians. Brig's time
// runs from the bytes of the JSON file to a program that was checked; that of
// the peers from rules that stand ready in memory, since they read no JSON.
//
// It is a module of its own, so that Brig does not depend on its peers.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "", "scratch directory")
	flag.StringVar(&o.kernel, "kernel", "", "the program made from kernel.c")
	flag.StringVar(&o.libseccomp, "libseccomp", "", "programs made from libseccomp.c, comma-separated")
	flag.StringVar(&o.format, "format", "table", "table or json")
	flag.IntVar(&o.compiles, "compiles", 41, "compilations of each")
	flag.IntVar(&o.loads, "loads", 301, "loads of each filter")
	flag.IntVar(&o.rounds, "n", 401, "rounds of system calls")
	flag.IntVar(&o.calls, "calls", 4000, "calls of each kind in a round")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	dir, kernel, libseccomp, format string
	compiles, loads, rounds, calls  int
}

// report is what is printed as JSON.
type report struct {
	Kernel   string    `json:"kernel"`
	CPUs     int       `json:"cpus"`
	Policies []*policy `json:"policies"`
	Goals    []goal    `json:"goals"`
}

// policy has the results for one job.
type policy struct {
	Name    string    `json:"name"`
	Brig    stages    `json:"brig"` // medians
	Filters []*filter `json:"filters"`
}

// filter has the figures of one program.
type filter struct {
	Compiler     string             `json:"compiler"`
	Instructions int                `json:"instructions,omitempty"`
	Compile      float64            `json:"compileUs,omitempty"` // median
	Load         float64            `json:"loadUs,omitempty"`    // median
	Mixes        map[string]float64 `json:"executedPerCall,omitempty"`
	Executed     float64            `json:"executedPerCallMean,omitempty"` // of the mixes
	Bitmap       float64            `json:"bitmapShare,omitempty"`         // of the calls of the mixes
	Worst        worst              `json:"worstCase"`
	Executes     map[string]int     `json:"executedPerMeasuredCall,omitempty"`
	Calls        map[string]cost    `json:"nanosecondsPerCall"`
	Differs      difference         `json:"differs"`
	Limits       string             `json:"limits,omitempty"`

	prog  []bpf.Instruction
	times []float64
	index int // in the kernel's results
}

// cost is in nanoseconds.
type cost struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`

	rounds []float64
}

// more is how much more c costs than d in the same round, which is steadier
// than the difference of two medians: it is their rounds' median.
func (c cost) more(d cost) float64 {
	var differences []float64
	for i, v := range c.rounds {
		differences = append(differences, v-d.rounds[i])
	}
	return median(differences)
}

func run(o options) error {
	if o.dir == "" || o.kernel == "" || o.libseccomp == "" {
		return fmt.Errorf("run bench/seccomp.sh")
	}
	if o.format != "table" && o.format != "json" {
		return fmt.Errorf("-format %q: use table or json", o.format)
	}
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("the figures are for x86-64, and this is %s", runtime.GOARCH)
	}
	rep := report{CPUs: runtime.NumCPU()}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		rep.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	k := &kernel{binary: o.kernel, dir: o.dir}
	for _, one := range []struct {
		name   string
		others bool
	}{{"x86-64, i386 and x32", true}, {"x86-64 alone", false}} {
		p, err := measurePolicy(o, k, one.name, one.others)
		if err != nil {
			return err
		}
		rep.Policies = append(rep.Policies, p)
	}
	if err := measureKernel(o, k, rep.Policies); err != nil {
		return err
	}
	rep.Goals = goals(rep.Policies)
	if o.format == "json" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(rep)
	}
	return rep.print()
}

// measurePolicy compiles one job with all that can do it, and examines the
// programs.
func measurePolicy(o options, k *kernel, name string, others bool) (*policy, error) {
	j, err := newJob(name, others)
	if err != nil {
		return nil, err
	}
	var parts []stages
	compilers, err := prepare(o, j, others, &parts)
	for _, c := range compilers {
		if c.close != nil {
			defer c.close()
		}
	}
	if err != nil {
		return nil, err
	}
	p := &policy{Name: name}
	for _, c := range compilers {
		p.Filters = append(p.Filters, &filter{Compiler: c.name, Limits: c.limits})
	}
	if err := p.compile(o, compilers); err != nil {
		return nil, err
	}
	p.Brig = medianStages(parts[warmUp:])
	mixes, err := readMixes()
	if err != nil {
		return nil, err
	}
	for _, f := range p.Filters {
		if err := f.examine(j, mixes); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Compiler, err)
		}
		if f.index, err = k.add(f.prog); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// prepare returns the compilers for a job, Brig first.
func prepare(o options, j *job, others bool, parts *[]stages) ([]*compiler, error) {
	list := []*compiler{brig(j, parts)}
	for _, path := range strings.Split(o.libseccomp, ",") {
		for _, kind := range []string{"linear", "tree"} {
			c, err := libseccomp(j, path, kind)
			if err != nil {
				return list, err
			}
			list = append(list, c)
		}
	}
	if others {
		return list, nil
	}
	g, err := gVisor(j)
	if err != nil {
		return list, err
	}
	e, err := elastic(j)
	if err != nil {
		return list, err
	}
	return append(list, g, e), nil
}

// warmUp is how many rounds are not counted.
const warmUp = 2

// compile fills in the programs and the times of compilers.
func (p *policy) compile(o options, compilers []*compiler) error {
	for round := -warmUp; round < o.compiles; round++ {
		for i := range compilers {
			n := (i + round + warmUp) % len(compilers)
			prog, took, err := compilers[n].compile()
			if err != nil {
				return fmt.Errorf("compile with %s: %w", compilers[n].name, err)
			}
			f := p.Filters[n]
			f.prog = prog
			if round >= 0 {
				f.times = append(f.times, took.Seconds()*1e6)
			}
		}
	}
	for _, f := range p.Filters {
		f.Compile = median(f.times)
	}
	return nil
}

func medianStages(list []stages) stages {
	of := func(get func(s stages) float64) float64 {
		var values []float64
		for _, s := range list {
			values = append(values, get(s))
		}
		return median(values)
	}
	return stages{
		Parse:   of(func(s stages) float64 { return s.Parse }),
		Resolve: of(func(s stages) float64 { return s.Resolve }),
		Compile: of(func(s stages) float64 { return s.Compile }),
	}
}

// examine fills in what a look at the program gives.
func (f *filter) examine(j *job, mixes []mix) (err error) {
	if err := bpf.Check(f.prog); err != nil {
		return err
	}
	f.Instructions, f.Mixes = len(f.prog), map[string]float64{}
	for i := range mixes {
		mean, bitmap, err := mixes[i].executed(f.prog)
		if err != nil {
			return err
		}
		f.Mixes[mixes[i].name] = mean
		f.Executed += mean / float64(len(mixes))
		f.Bitmap += bitmap / float64(len(mixes))
	}
	if f.Worst, err = j.worstCase(f.prog); err != nil {
		return err
	}
	f.Executes = map[string]int{}
	for _, c := range measuredCalls {
		nr, ok := syscalls.Number(seccomp.X86_64, c.name)
		if !ok {
			return fmt.Errorf("no number for %s", c.name)
		}
		s, err := count(f.prog, &bpf.Data{Nr: nr, Arch: seccomp.X86_64.Audit(), Args: [6]uint64{c.arg0}})
		if err != nil {
			return err
		}
		f.Executes[c.name] = s.all
	}
	f.Differs, err = j.compare(f.prog)
	return err
}

// Rows beside those of the compilers: what a call costs without a filter, and
// with one that the kernel never runs.
const (
	noFilter   = "no filter"
	allowsAll  = "one instruction, ALLOW"
	allowValue = 0x7fff0000
)

// measureKernel loads all filters and makes calls under them. The rows beside
// go to each policy.
func measureKernel(o options, k *kernel, policies []*policy) error {
	base := []*filter{{Compiler: noFilter}, {Compiler: allowsAll}}
	var err error
	if base[0].index, err = k.add(nil); err != nil {
		return err
	}
	if base[1].index, err = k.add([]bpf.Instruction{{Op: bpf.RetK, K: allowValue}}); err != nil {
		return err
	}
	loads, err := k.loads(o.loads)
	if err != nil {
		return err
	}
	calls, err := k.calls(o.rounds, o.calls)
	if err != nil {
		return err
	}
	fill := func(f *filter) {
		f.Load, f.Calls = median(loads[f.index])/1000, map[string]cost{}
		for i, c := range measuredCalls {
			rounds := calls[i][f.index]
			f.Calls[c.name] = cost{slices.Min(rounds), median(rounds), rounds}
		}
	}
	for _, f := range base {
		fill(f)
	}
	// Under these two, the call that others refuse would do something.
	for _, f := range base {
		delete(f.Calls, "socket")
	}
	for _, p := range policies {
		for _, f := range p.Filters {
			fill(f)
		}
		p.Filters = append(p.Filters, base...)
	}
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
