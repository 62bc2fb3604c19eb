package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
)

// column is a figure of every filter.
type column struct {
	title string
	value func(f *filter) (float64, bool)
	form  string
}

func (r *report) print() error {
	fmt.Printf("Linux %s, %d CPUs. Docker's default profile with its 14 capabilities. In brackets: times Brig's.\n", r.Kernel, r.CPUs)
	for _, p := range r.Policies {
		if err := p.print(); err != nil {
			return err
		}
	}
	fmt.Printf("\nbrig's compile time is from JSON, that of others from rules in memory. Figures are medians, those of calls in ns: minimum median (times Brig's median) [instructions, without the bitmap].\n" +
		"executed: instructions a call on the recorded mix of nginx, redis and python; bitmap: share of those calls that the kernel lets pass without the filter.\n" +
		"worst: instructions for any number before an argument is looked at, and in all. socket args: the most that are spent on its argument.\n" +
		"getppid is allowed by its number, personality(0xffffffff) by its argument, socket(AF_VSOCK) refused by its argument.\n")
	fmt.Println("\nGoals:")
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, g := range r.Goals {
		state := "reached"
		if !g.Reached {
			state = "NOT REACHED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", state, g.Name, g.Measured)
	}
	return w.Flush()
}

func (p *policy) print() error {
	fmt.Printf("\n%s\n", p.Name)
	known := func(get func(f *filter) float64) func(f *filter) (float64, bool) {
		return func(f *filter) (float64, bool) { return get(f), f.prog != nil }
	}
	err := p.printColumns([]column{
		{"instructions", known(func(f *filter) float64 { return float64(f.Instructions) }), "%.0f"},
		{"compile µs", known(func(f *filter) float64 { return f.Compile }), "%.0f"},
		{"load µs", func(f *filter) (float64, bool) { return f.Load, f.Load > 0 }, "%.0f"},
		{"executed", known(func(f *filter) float64 { return f.Executed }), "%.1f"},
		{"worst before", known(func(f *filter) float64 { return float64(f.Worst.Before) }), "%.0f"},
		{"worst", known(func(f *filter) float64 { return float64(f.Worst.All) }), "%.0f"},
		{"socket args", known(func(f *filter) float64 { return float64(f.Worst.Socket) }), "%.0f"},
	})
	if err != nil {
		return err
	}
	fmt.Printf("brig: parse %.0f µs, resolve %.0f µs, compile and check %.0f µs\n\n", p.Brig.Parse, p.Brig.Resolve, p.Brig.Compile)
	if err := p.printCalls(); err != nil {
		return err
	}
	for _, f := range p.Filters {
		if f.prog != nil && f.Compiler != "brig" {
			fmt.Printf("%s: %s. Answers otherwise: %d numbers that are newer than the profile; %s.\n", f.Compiler, f.Limits, f.Differs.Newer, names(f.Differs.Other))
		} else if f.prog != nil && (f.Differs.Newer > 0 || len(f.Differs.Other) > 0) {
			fmt.Printf("BRIG'S FILTER IS WRONG for %d newer numbers; %s.\n", f.Differs.Newer, names(f.Differs.Other))
		}
	}
	return nil
}

// shown is how many calls are named in one line.
const shown = 8

func names(list []string) string {
	if len(list) == 0 {
		return "no other call"
	}
	if len(list) > shown {
		return fmt.Sprintf("%s and %d others", strings.Join(list[:shown], ", "), len(list)-shown)
	}
	return strings.Join(list, ", ")
}

func (p *policy) printColumns(columns []column) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, c := range columns {
		fmt.Fprintf(w, "\t%s", c.title)
	}
	fmt.Fprint(w, "\tbitmap\t\n")
	for _, f := range p.Filters {
		if f.Load == 0 {
			continue // there is no filter
		}
		fmt.Fprint(w, f.Compiler)
		for _, c := range columns {
			fmt.Fprint(w, "\t", p.cell(c, f))
		}
		if f.prog != nil {
			fmt.Fprintf(w, "\t%.1f %%", 100*f.Bitmap)
		} else {
			fmt.Fprint(w, "\t-")
		}
		fmt.Fprint(w, "\t\n")
	}
	return w.Flush()
}

// cell is a figure, and its ratio to Brig's.
func (p *policy) cell(c column, f *filter) string {
	v, ok := c.value(f)
	if !ok {
		return "-"
	}
	text := fmt.Sprintf(c.form, v)
	own, _ := c.value(p.Filters[0])
	if f == p.Filters[0] || own == 0 {
		return text
	}
	return fmt.Sprintf("%s (%.2f)", text, v/own)
}

func (p *policy) printCalls() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, c := range measuredCalls {
		fmt.Fprintf(w, "\t%s", c.name)
	}
	fmt.Fprint(w, "\t\n")
	for _, f := range p.Filters {
		fmt.Fprint(w, f.Compiler)
		for _, call := range measuredCalls {
			c, ok := f.Calls[call.name]
			if !ok {
				fmt.Fprint(w, "\t-")
				continue
			}
			fmt.Fprintf(w, "\t%.1f %.1f", c.Min, c.Median)
			if f != p.Filters[0] {
				fmt.Fprintf(w, " (%.2f)", c.Median/p.Filters[0].Calls[call.name].Median)
			}
			if f.prog != nil {
				fmt.Fprintf(w, " [%d]", f.Executes[call.name])
			}
		}
		fmt.Fprint(w, "\t\n")
	}
	return w.Flush()
}
