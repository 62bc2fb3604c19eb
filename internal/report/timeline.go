package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/brig-run/brig/internal/policy"
)

// timeline shows when each call was made first, on a logarithmic scale: most of
// them come in the first moments, and the late ones are what short runs miss.
type timeline struct {
	Total  int
	Curve  string // the points of a polyline, in a field of 1000 by 100
	Area   string // the same, closed
	Ticks  []axisTick
	Ready  *readyBand
	Lanes  []lane
	Latest []latestRow
	Spoken string // the picture in words
}

type axisTick struct{ X, Label, Anchor string }

// readyBand is where the container became ready: not before From, not after To.
type readyBand struct{ X, Width, Text, Anchor, Shift string }

type lane struct {
	Program string
	Count   int
	Marks   []laneMark
}

type laneMark struct{ X, Title string }

type latestRow struct{ Call, Program, When, Run, Phase string }

// The scale begins at a millisecond: what is earlier stands at its start.
const scaleStart = 0.001

const maxLanes = 10

type firstUse struct {
	name string
	s    *policy.Syscall
}

func (m *model) timeline() *timeline {
	var uses []firstUse
	for i := range m.p.Syscalls {
		if s := &m.p.Syscalls[i]; s.First != nil && s.First.Seconds >= 0 && !math.IsInf(s.First.Seconds, 0) {
			uses = append(uses, firstUse{clean(s.Name), s})
		}
	}
	if len(uses) == 0 {
		return nil
	}
	slices.SortStableFunc(uses, func(a, b firstUse) int {
		return cmp.Or(cmp.Compare(a.s.First.Seconds, b.s.First.Seconds), strings.Compare(a.name, b.name))
	})
	end := max(uses[len(uses)-1].s.First.Seconds, 0.01)
	for _, r := range m.p.Runs {
		if r.Purpose != policy.PurposeProve && !math.IsInf(r.Seconds, 0) {
			end = max(end, r.Seconds)
		}
	}
	at := func(seconds float64) float64 {
		return max(0, min(1, math.Log10(max(seconds, scaleStart)/scaleStart)/math.Log10(end/scaleStart)))
	}
	t := &timeline{Total: len(uses), Ticks: axis(end, at), Ready: ready(uses, at)}
	t.Curve, t.Area = curve(uses, at)
	t.Lanes = lanes(uses, at)
	t.Latest = latest(uses)
	t.Spoken = spoken(uses)
	return t
}

// axis has a tick at every power of ten of a second, up to the end.
func axis(end float64, at func(float64) float64) []axisTick {
	labels := [...]string{"1 ms", "10 ms", "0.1 s", "1 s", "10 s", "100 s", "1000 s", "10⁴ s", "10⁵ s"}
	var ticks []axisTick
	for i, label := range labels {
		seconds := scaleStart * math.Pow10(i)
		if seconds > end*1.0001 {
			break
		}
		tick := axisTick{percent(at(seconds)), label, "middle"}
		if i == 0 {
			tick.Anchor, tick.Label = "start", "≤ 1 ms"
		} else if at(seconds) > 0.95 {
			tick.Anchor = "end"
		}
		ticks = append(ticks, tick)
	}
	return ticks
}

// curve is the number of distinct calls over time.
func curve(uses []firstUse, at func(float64) float64) (line, area string) {
	var b strings.Builder
	b.WriteString("0,100")
	height := 100.0
	for i, u := range uses {
		x := at(u.s.First.Seconds) * 1000
		next := 100 - 100*float64(i+1)/float64(len(uses))
		if i+1 < len(uses) && at(uses[i+1].s.First.Seconds)*1000-x < 0.5 {
			continue // the steps of one moment are one step
		}
		fmt.Fprintf(&b, " %.1f,%.1f %.1f,%.1f", x, height, x, next)
		height = next
	}
	fmt.Fprintf(&b, " 1000,%.1f", height)
	return b.String(), b.String() + " 1000,100"
}

// lanes has one lane for each program, in the order of their first calls. What
// comes after the first few is one lane.
func lanes(uses []firstUse, at func(float64) float64) []lane {
	var list []lane
	index := map[string]int{}
	for _, u := range uses {
		program := clean(u.s.First.Program)
		i, ok := index[program]
		if !ok {
			i = min(len(list), maxLanes)
			index[program] = i
			if i == len(list) {
				name := program
				if i == maxLanes {
					name = "others"
				}
				list = append(list, lane{Program: name})
			}
		}
		list[i].Count++
		list[i].Marks = append(list[i].Marks, laneMark{percent(at(u.s.First.Seconds)),
			fmt.Sprintf("%s, %s, %s", u.name, program, duration(u.s.First.Seconds))})
	}
	return list
}

// ready finds when the container became ready from the calls of the run that
// most first uses are from: calls that no run made after it are from before, and
// calls that no run made before it are from after. It is nil if that does not
// tell.
func ready(uses []firstUse, at func(float64) float64) *readyBand {
	from, to := -1.0, math.Inf(1)
	run := mainRun(uses)
	for _, u := range uses {
		if u.s.First.Run != run || u.s.Startup+u.s.Running == 0 {
			continue
		}
		if u.s.Running == 0 {
			from = max(from, u.s.First.Seconds)
		} else if u.s.Startup == 0 {
			to = min(to, u.s.First.Seconds)
		}
	}
	if from < 0 || math.IsInf(to, 1) || from > to {
		return nil
	}
	band := &readyBand{X: percent(at(from)), Width: percent(max(at(to)-at(from), 0.001)), Anchor: "end", Shift: "-6",
		Text: fmt.Sprintf("ready between %s and %s", duration(from), duration(to))}
	if at(from) < 0.1 {
		band.Anchor, band.Shift = "start", "6"
	}
	return band
}

func mainRun(uses []firstUse) string {
	counts, best := map[string]int{}, ""
	for _, u := range uses {
		run := u.s.First.Run
		counts[run]++
		if counts[run] > counts[best] || counts[run] == counts[best] && run < best {
			best = run
		}
	}
	return best
}

// latest are the calls that came last.
func latest(uses []firstUse) []latestRow {
	var rows []latestRow
	for _, u := range slices.Backward(uses) {
		if len(rows) == 6 {
			break
		}
		phase := "startup and running"
		switch {
		case u.s.Startup+u.s.Running == 0:
			phase = "–"
		case u.s.Startup == 0:
			phase = "running only"
		case u.s.Running == 0:
			phase = "startup only"
		}
		rows = append(rows, latestRow{u.name, clean(u.s.First.Program), duration(u.s.First.Seconds), clean(u.s.First.Run), phase})
	}
	return rows
}

// spoken says what the curve shows.
func spoken(uses []firstUse) string {
	n := len(uses)
	half, last := uses[(n-1)/2], uses[n-1]
	return fmt.Sprintf("Half of the %s had been made by %s; the last new one was %s after %s.",
		plural(n, "call", "calls"), duration(half.s.First.Seconds), last.name, duration(last.s.First.Seconds))
}
