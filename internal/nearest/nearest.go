// Package nearest finds the known name that a misspelt one most likely meant.
// It owns the measure of likeness and nothing else: callers bring the names
// and word the message.
package nearest

import "iter"

// maxLen bounds the names that are compared, so that hostile input costs
// little. No name of a capability, a system call or a flag is as long.
const maxLen = 64

// Name returns the entry of names with the smallest edit distance to want, or
// "" when none is near enough to be a likely slip: at most one edit in three
// letters. Insertion, deletion, change and the swap of two neighbours count
// one edit each. On a tie the first entry wins.
func Name(want string, names iter.Seq[string]) string {
	if want == "" || len(want) > maxLen {
		return ""
	}
	best, bestDistance := "", max(1, len(want)/3)+1
	for name := range names {
		if len(name) > maxLen || abs(len(name)-len(want)) >= bestDistance {
			continue
		}
		if d := distance(want, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// distance is the optimal string alignment distance between a and b, kept in
// three rows of the usual table.
func distance(a, b string) int {
	var rows [3][maxLen + 1]int
	before, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row[j] = d
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
