package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/brig-run/brig/test/harness"
)

// ociRuntime is an OCI runtime with a bundle of its own.
type ociRuntime struct {
	name, program string
	bundle, state string
}

func (r *ociRuntime) command(args ...string) []string {
	return append([]string{r.program, "--root", r.state}, args...)
}

// figures of one kind of work are those of engines: the first is Brig's.
type work struct {
	name  string
	steps func(r *ociRuntime, id string) [][]string
}

// runtimes compares OCI runtimes at what engines have them do. Their state is in
// memory, where engines have it.
func runtimes(o options) error {
	state, err := os.MkdirTemp("/dev/shm", "brig-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	list, err := prepareRuntimes(o, state)
	if err != nil {
		return err
	}
	var all []series
	for _, s := range []struct {
		name   string
		rounds int
		pause  time.Duration
	}{{"loop", o.rounds, 0}, {"after 150 ms idle", o.idleRounds, idle}} {
		for _, w := range works() {
			if s.rounds == 0 {
				continue
			}
			results, err := compare(list, w, s.rounds, s.pause)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			all = append(all, series{w.name + ", " + s.name, s.rounds, results})
		}
	}
	rest, err := charges(list)
	if err == nil && o.parallel > 0 {
		var more []charge
		more, err = throughput(list, o.parallel)
		rest = append(rest, more...)
	}
	if err != nil {
		return err
	}
	if o.format == "json" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"series": all, "other": rest})
	}
	return printRuntimes(all, rest)
}

func works() []work {
	return []work{
		{"run", func(r *ociRuntime, id string) [][]string {
			return [][]string{r.command("run", "--bundle", r.bundle, id)}
		}},
		{"create, start, delete --force", func(r *ociRuntime, id string) [][]string {
			return [][]string{r.command("create", "--bundle", r.bundle+"-sleep", id), r.command("start", id), r.command("delete", "--force", id)}
		}},
		{"exec", func(r *ociRuntime, id string) [][]string {
			return [][]string{r.command("exec", standing(r), "true")}
		}},
	}
}

// standing is the container in which exec is measured.
func standing(r *ociRuntime) string {
	return "bench-standing-" + r.name + "-" + strconv.Itoa(os.Getpid())
}

// prepareRuntimes makes the bundles, and finds the peers that are there.
func prepareRuntimes(o options, state string) (list []*ociRuntime, err error) {
	image, err := harness.Busybox(imageName)
	if err != nil {
		return nil, err
	}
	brig, err := harness.Binary()
	if err != nil {
		return nil, err
	}
	link := filepath.Join(o.dir, "link", "brig-runtime")
	small := filepath.Join(o.dir, "brig-runtime")
	if err := os.Mkdir(filepath.Dir(link), 0o755); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Symlink(brig, link), os.Rename(filepath.Join(o.dir, "small-brig-runtime"), small)); err != nil {
		return nil, err
	}
	for _, r := range []*ociRuntime{{name: "brig", program: small}, {name: "brig-link", program: link}, {name: "crun"}, {name: "runc"}} {
		if r.program == "" {
			if r.program, err = exec.LookPath(r.name); err != nil {
				fmt.Fprintf(os.Stderr, "bench: no %s here, left out\n", r.name)
				continue
			}
		}
		r.bundle, r.state = filepath.Join(o.dir, r.name+"-bundle"), filepath.Join(state, r.name)
		for suffix, args := range map[string][]string{"": {"true"}, "-sleep": {"sleep", "600"}} {
			if err := writeBundle(r.bundle+suffix, image); err != nil {
				return nil, err
			}
			if err := setArgs(r.bundle+suffix, args); err != nil {
				return nil, err
			}
		}
		list = append(list, r)
	}
	return list, nil
}

func setArgs(bundle string, args []string) error {
	name := filepath.Join(bundle, "config.json")
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(b, &spec); err != nil {
		return err
	}
	spec["process"].(map[string]any)["args"] = args
	if b, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o644)
}

// compare measures one kind of work. Each runtime has its standing container, and
// in each round one turn, in an order that rotates.
func compare(list []*ociRuntime, w work, rounds int, pause time.Duration) ([]result, error) {
	var engines []*engine
	p := &preparation{dir: filepath.Dir(list[0].program)}
	for _, r := range list {
		e := &engine{name: r.name}
		if err := p.streams(e); err != nil {
			return nil, err
		}
		defer e.close()
		start := [][]string{r.command("run", "--detach", "--bundle", r.bundle+"-sleep", standing(r))}
		if err := e.steps(start); err != nil {
			return nil, err
		}
		e.cleanUp = func() { exec.Command(r.program, "--root", r.state, "delete", "--force", standing(r)).Run() }
		e.sequence = func(round int) [][]string {
			return w.steps(r, fmt.Sprintf("bench-%s-%d-%d", r.name, os.Getpid(), round))
		}
		engines = append(engines, e)
	}
	return measure(engines, rounds, pause)
}

// charge is a figure without a distribution.
type charge struct {
	Name    string  `json:"name"`
	Runtime string  `json:"runtime"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
}

// charges reads what a start has cost the container's own cgroup in memory, at its
// peak (v1: memory.max_usage_in_bytes, v2: memory.peak).
func charges(list []*ociRuntime) (all []charge, err error) {
	for _, r := range list {
		id := fmt.Sprintf("bench-mem-%s-%d", r.name, os.Getpid())
		b, err := os.ReadFile(filepath.Join(r.bundle+"-sleep", "config.json"))
		if err != nil {
			return nil, err
		}
		bundle := r.bundle + "-mem"
		if err := exec.Command("cp", "-a", r.bundle+"-sleep", bundle).Run(); err != nil {
			return nil, err
		}
		b = []byte(strings.Replace(string(b), `"linux":{`, `"linux":{"cgroupsPath":"/`+id+`",`, 1))
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o644); err != nil {
			return nil, err
		}
		if out, err := detached(r.command("run", "--detach", "--bundle", bundle, id)); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		peak, perr := peakOf(id)
		exec.Command(r.program, "--root", r.state, "delete", "--force", id).Run()
		if perr != nil {
			fmt.Fprintln(os.Stderr, "bench: no figure of memory:", perr)
			continue
		}
		all = append(all, charge{"memory charged to the cgroup at the start's peak", r.name, float64(peak) / (1 << 20), "MiB"})
	}
	return all, nil
}

func peakOf(id string) (int64, error) {
	for _, name := range []string{"/sys/fs/cgroup/memory/" + id + "/memory.max_usage_in_bytes", "/sys/fs/cgroup/" + id + "/memory.peak"} {
		if b, err := os.ReadFile(name); err == nil {
			return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		}
	}
	return 0, errors.New("no memory controller")
}

// detached runs a command whose container keeps no stream of ours open.
func detached(args []string) (string, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer null.Close()
	log, err := os.CreateTemp("", "bench-")
	if err != nil {
		return "", err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, log
	err = cmd.Run()
	said, _ := os.ReadFile(log.Name())
	return string(said), err
}

// throughput starts many containers, 50 at a time, with all of them alive at the
// end, and tells how many a second that was.
func throughput(list []*ociRuntime, n int) (all []charge, err error) {
	for _, r := range list {
		begin := time.Now()
		ids := make(chan int)
		failed := make(chan error, n)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for i := range ids {
					if out, err := detached(r.command("run", "--detach", "--bundle", r.bundle+"-sleep", fmt.Sprintf("bench-many-%d", i))); err != nil {
						failed <- fmt.Errorf("%s: %w: %s", r.name, err, out)
					}
				}
			})
		}
		for i := range n {
			ids <- i
		}
		close(ids)
		wg.Wait()
		took := time.Since(begin)
		for i := range n {
			exec.Command(r.program, "--root", r.state, "delete", "--force", fmt.Sprintf("bench-many-%d", i)).Run()
		}
		if len(failed) > 0 {
			return all, <-failed
		}
		all = append(all, charge{fmt.Sprintf("%d containers started, 50 at a time", n), r.name, float64(n) / took.Seconds(), "a second"})
	}
	return all, nil
}

func printRuntimes(all []series, rest []charge) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, s := range all {
		fmt.Fprintf(w, "\n%s\tmedian ms\tp10\tp90\tCPU\tbrig is\t\n", s.Name)
		for _, e := range s.Engines {
			fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f x\t\n", e.Engine, e.Median, e.P10, e.P90, e.CPU, e.BrigRatio)
		}
	}
	fmt.Fprintln(w)
	for _, c := range rest {
		fmt.Fprintf(w, "%s\t%s\t%.1f %s\t\n", c.Name, c.Runtime, c.Value, c.Unit)
	}
	return w.Flush()
}
