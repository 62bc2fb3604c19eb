// Command record measures what a recording by Brig costs: a system call, a
// server's throughput, the time to attach, and a container's start with
// --explain. strace -f -c --seccomp-bpf, which counts calls as well, does the
// same work in the same rounds.
//
// Empty programs at the two trace points are measured as well: they show how much
// of the price is the kernel's own for being traced at all.
//
// The system call is getppid in a loop, which does next to nothing: what is
// added to it is what is added to every call. "beside" is a process that is not
// recorded, on a host where another one is. The server is redis with the
// benchmark that comes with it, on a Unix socket, without pipelining.
//
// Each round measures everything once, so that drift of the machine meets all
// alike. Figures are medians.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == loopMode {
		loop(os.Args[2])
		return
	}
	var b bench
	flag.StringVar(&b.dir, "dir", "", "scratch directory")
	flag.StringVar(&b.brig, "brig", "brig", "the brig to measure")
	flag.IntVar(&b.rounds, "n", 7, "rounds")
	flag.IntVar(&b.calls, "calls", 3000000, "system calls of a round; strace and a recording without privileges make a hundredth of them")
	flag.IntVar(&b.requests, "requests", 100000, "requests to redis of a round")
	format := flag.String("format", "table", "table or json")
	flag.Parse()
	met, err := b.main(*format)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if !met {
		os.Exit(1)
	}
}

// bench is one run of all.
type bench struct {
	dir, brig               string
	rounds, calls, requests int

	samples map[string][]float64
}

// result is one figure and what it should be.
type result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"goal,omitempty"`
	Met   *bool   `json:"met,omitempty"`
}

// report is what is printed as JSON.
type report struct {
	Kernel  string   `json:"kernel"`
	CPUs    int      `json:"cpus"`
	Rounds  int      `json:"rounds"`
	Results []result `json:"results"`
}

func (b *bench) main(format string) (met bool, err error) {
	if format != "table" && format != "json" {
		return false, fmt.Errorf("-format %q: use table or json", format)
	}
	if b.rounds < 1 || b.calls < 100 || b.requests < 1 {
		return false, errors.New("-n and -requests must be 1 or more, -calls 100 or more")
	}
	b.samples = map[string][]float64{}
	for _, prepare := range []func() (func() error, func(), error){b.callBench, b.redisBench, b.startBench} {
		round, end, err := prepare()
		if err != nil {
			return false, err
		}
		for range b.rounds {
			if err = round(); err != nil {
				break
			}
		}
		end()
		if err != nil {
			return false, err
		}
	}
	var uts unix.Utsname
	unix.Uname(&uts)
	r := report{Kernel: unix.ByteSliceToString(uts.Release[:]), CPUs: runtime.NumCPU(), Rounds: b.rounds, Results: b.results()}
	met = !slices.ContainsFunc(r.Results, func(r result) bool { return r.Met != nil && !*r.Met })
	return met, r.print(format)
}

func (b *bench) add(name string, v float64) { b.samples[name] = append(b.samples[name], v) }

// median of the samples of that name.
func (b *bench) median(name string) float64 {
	s := slices.Sorted(slices.Values(b.samples[name]))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func (b *bench) results() []result {
	alone := b.median("call alone")
	added := b.median("call recorded") - alone
	strace := b.median("call strace") - alone
	throughput := b.median("redis recorded") / b.median("redis alone")
	start := b.median("start explain") / b.median("start plain")
	goal := func(name string, v float64, unit, words string, ok bool) result {
		return result{Name: name, Value: v, Unit: unit, Goal: words, Met: &ok}
	}
	return []result{
		{Name: "a call, not recorded", Value: alone, Unit: "ns"},
		{Name: "added to it by empty programs at the same trace points", Value: b.median("call at the floor") - alone, Unit: "ns"},
		goal("added to it by a recording", added, "ns", "<= 150", added <= 150),
		{Name: "added to the calls of others meanwhile", Value: b.median("call beside") - alone, Unit: "ns"},
		{Name: "added by strace", Value: strace, Unit: "ns"},
		goal("strace compared with a recording", strace/max(added, 1), "times", ">= 30", strace >= 30*max(added, 1)),
		{Name: "added by a recording without privileges", Value: b.median("call notified") - alone, Unit: "ns"},
		{Name: "redis, not recorded", Value: b.median("redis alone"), Unit: "requests/s"},
		{Name: "redis with the empty programs, of that", Value: 100 * b.median("redis at the floor") / b.median("redis alone"), Unit: "%"},
		goal("redis recorded, of that", 100*throughput, "%", ">= 90", throughput >= 0.9),
		{Name: "redis under strace, of that", Value: 100 * b.median("redis strace") / b.median("redis alone"), Unit: "%"},
		goal("from brig record to the first call recorded", b.median("attach"), "ms", "< 40", b.median("attach") < 40),
		{Name: "brig run --rm IMAGE true", Value: b.median("start plain"), Unit: "ms"},
		{Name: "with --explain, of that", Value: 100 * start, Unit: "%"},
	}
}

func (r *report) print(format string) error {
	if format == "json" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	fmt.Printf("Linux %s, %d processors, %d rounds\n\n", r.Kernel, r.CPUs, r.Rounds)
	tw := tabwriter.NewWriter(os.Stdout, 0, 1, 2, ' ', 0)
	fmt.Fprintln(tw, "MEDIAN OF\tVALUE\tUNIT\tGOAL\tMET")
	for _, x := range r.Results {
		met := ""
		if x.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*x.Met]
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", x.Name, strconv.FormatFloat(x.Value, 'f', 1, 64), x.Unit, x.Goal, met)
	}
	return tw.Flush()
}
