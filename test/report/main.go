// Command report reads go test -json from its standard input and prints what a
// person wants to see of it: one line a package, the whole output of what
// failed, the tests that were skipped with their reasons, and the sum. It ends
// with 1 if anything failed, or if no test ran at all.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	os.Exit(r.close())
}

// event is a line of go test -json, see go doc test2json.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output
	FailedBuild string
	Test        string
	Elapsed     float64
	Output      string
}

type key struct{ pkg, test string }

type report struct {
	out                     io.Writer
	output                  map[key]*strings.Builder
	skips                   []string
	failed                  []key
	passes, fails, packages int
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[key]*strings.Builder{}}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(r.out, lines.Text()) // go's own complaints are not JSON
			continue
		}
		r.add(e)
	}
	return lines.Err()
}

func (r *report) add(e event) {
	k := key{cmp.Or(e.Package, e.ImportPath), e.Test}
	switch e.Action {
	case "output", "build-output":
		if r.output[k] == nil {
			r.output[k] = &strings.Builder{}
		}
		r.output[k].WriteString(e.Output)
		return
	case "fail":
		r.failed = append(r.failed, k)
		if e.FailedBuild != "" {
			r.print(key{e.FailedBuild, ""})
		}
		r.print(k)
	case "skip":
		if e.Test != "" {
			r.skips = append(r.skips, e.Package+" "+e.Test+": "+reason(r.output[k].String()))
		}
	}
	if e.Test == "" {
		r.packageDone(e)
	} else {
		r.count(e.Action)
	}
	if e.Action == "pass" || e.Action == "skip" {
		delete(r.output, k)
	}
}

func (r *report) print(k key) {
	if b := r.output[k]; b != nil {
		fmt.Fprint(r.out, b.String())
		delete(r.output, k)
	}
}

func (r *report) packageDone(e event) {
	switch e.Action {
	case "pass":
		r.packages++
		fmt.Fprintf(r.out, "ok   %s %.1fs\n", e.Package, e.Elapsed)
	case "fail":
		r.packages++
		fmt.Fprintf(r.out, "FAIL %s %.1fs\n", e.Package, e.Elapsed)
	}
}

func (r *report) count(action string) {
	switch action {
	case "pass":
		r.passes++
	case "fail":
		r.fails++
	}
}

// reason is what a test said when it skipped, on one line.
func reason(output string) string {
	var words []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		words = append(words, line)
	}
	return strings.Join(words, " ")
}

// close prints the end of the report and gives the exit code.
func (r *report) close() int {
	if len(r.skips) > 0 {
		slices.Sort(r.skips)
		fmt.Fprintf(r.out, "\nskipped:\n  %s\n", strings.Join(r.skips, "\n  "))
	}
	if len(r.failed) > 0 {
		fmt.Fprintln(r.out, "\nfailed:")
		for _, k := range r.failed {
			fmt.Fprintln(r.out, " ", strings.TrimSpace(k.pkg+" "+k.test))
		}
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passes, max(r.fails, min(len(r.failed), 1)), len(r.skips))
	if len(r.failed) > 0 || r.passes == 0 {
		return 1
	}
	return 0
}
