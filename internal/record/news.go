package record

import "slices"

// News is what a recording has and an earlier Snapshot of it, which may be nil,
// had not.
type News struct {
	Syscalls []Syscall // that entered for the first time
	Denials  []Denial
}

// Since returns the news, in the order in which they happened as far as that is
// known: of calls that entered, and of denials.
func (rec *Recording) Since(before *Recording) News {
	var n News
	if before == nil {
		before = &Recording{}
	}
	for _, c := range rec.Syscalls {
		known := slices.ContainsFunc(before.Syscalls, func(o Syscall) bool { return o.ABI == c.ABI && o.Nr == c.Nr && o.Count > 0 })
		if c.Count > 0 && !known {
			n.Syscalls = append(n.Syscalls, c)
		}
	}
	slices.SortStableFunc(n.Syscalls, func(a, b Syscall) int { return int(a.FirstAfter - b.FirstAfter) })
	for i := range rec.Denials {
		if d := &rec.Denials[i]; !slices.ContainsFunc(before.Denials, d.same) {
			n.Denials = append(n.Denials, *d)
		}
	}
	return n
}

// same reports whether two denials are one, seen at two times.
func (d *Denial) same(o Denial) bool {
	return d.Syscall == o.Syscall && d.ABI == o.ABI && d.Program == o.Program && d.Errno == o.Errno &&
		d.By == o.By && d.Killed == o.Killed && slices.Equal(d.Capabilities, o.Capabilities)
}

// Calls is how many system calls entered.
func (rec *Recording) Calls() (n uint64) {
	for i := range rec.Syscalls {
		n += rec.Syscalls[i].Count
	}
	return n
}
