package bpf

import "math/bits"

// interval is the words from lo to hi, both included.
type interval struct{ lo, hi uint32 }

const maxWord = 1<<32 - 1

// domain is a set of 32-bit words: those of the intervals, which are sorted and
// apart, for which every masked test holds. It may be empty without being seen
// to be; see [domain.witness].
type domain struct {
	in     []interval
	masked *maskedTest
}

// maskedTest is a test of some of a word's bits: word&mask == k, > k or >= k,
// as op says, which holds or not, as want says. It is the head of a list.
type maskedTest struct {
	op      uint16
	want    bool
	mask, k uint32
	next    *maskedTest
}

var everything = []interval{{0, maxWord}}

// sets makes domains. It owns the memory of their intervals.
type sets struct{ free []interval }

func (m *sets) grab(n int) []interval {
	if cap(m.free)-len(m.free) < n {
		m.free = make([]interval, 0, max(1024, 4*n))
	}
	at := len(m.free)
	m.free = m.free[:at+n]
	return m.free[at:at:len(m.free)]
}

// giveBack returns what of the last grab was not needed.
func (m *sets) giveBack(n int) { m.free = m.free[:len(m.free)-n] }

// clip returns the part of in from lo to hi.
func (m *sets) clip(in []interval, lo, hi uint32) []interval {
	first, last := 0, len(in)
	for first < last && in[first].hi < lo {
		first++
	}
	for last > first && in[last-1].lo > hi {
		last--
	}
	in = in[first:last]
	if len(in) == 0 || in[0].lo >= lo && in[len(in)-1].hi <= hi {
		return in
	}
	out := append(m.grab(len(in)), in...)
	out[0].lo = max(out[0].lo, lo)
	out[len(out)-1].hi = min(out[len(out)-1].hi, hi)
	return out
}

// without returns in without the word k.
func (m *sets) without(in []interval, k uint32) []interval {
	at := 0
	for at < len(in) && in[at].hi < k {
		at++
	}
	if at == len(in) || in[at].lo > k {
		return in
	}
	out := append(m.grab(len(in)+1), in[:at]...)
	if in[at].lo < k {
		out = append(out, interval{in[at].lo, k - 1})
	}
	if in[at].hi > k {
		out = append(out, interval{k + 1, in[at].hi})
	}
	out = append(out, in[at+1:]...)
	m.giveBack(cap(out) - len(out))
	return out[:len(out):len(out)]
}

// refine returns the words of d for which the test (word & mask) op k, where
// op is Jeq, Jgt, Jge or Jset, has the outcome want. It is false if there are
// none.
func (m *sets) refine(d domain, mask uint32, op uint16, k uint32, want bool) (domain, bool) {
	if op == Jset {
		mask, op, k, want = mask&k, Jeq, 0, !want
	}
	switch {
	case mask == 0:
		if holds(op, 0, k) != want {
			return domain{}, false
		}
	case op == Jeq && mask != maxWord && bits.OnesCount32(^mask) <= maxFree:
		d.in = m.points(d.in, mask, k, want)
	case mask != maxWord:
		if had, known := d.masked.outcome(mask, op, k); known {
			if had != want {
				return domain{}, false
			}
			return d, true
		}
		if in, ok := m.pieces(d.in, mask, op, k, want); ok {
			d.in = in
			break
		}
		d.masked = &maskedTest{op, want, mask, k, d.masked}
	default:
		d.in = m.whole(d.in, op, k, want)
	}
	if d.masked == nil {
		return d, len(d.in) > 0
	}
	_, ok := d.witness()
	return d, ok
}

// outcome returns the outcome of a test that is in the list.
func (t *maskedTest) outcome(mask uint32, op uint16, k uint32) (want, known bool) {
	for ; t != nil; t = t.next {
		if t.mask == mask && t.op == op && t.k == k {
			return t.want, true
		}
	}
	return false, false
}

// maxFree is how many bits a masked word may leave open for its values to be
// looked at one by one.
const maxFree = 5

// points returns the words of in that are k but for bits outside of mask, or
// those that are not.
func (m *sets) points(in []interval, mask, k uint32, want bool) []interval {
	if k&^mask != 0 {
		if want {
			return nil
		}
		return in
	}
	found := m.grab(1 << maxFree)
	// The subsets of the free bits, in the order of their values.
	for free := uint32(0); ; {
		w := k | free
		if len(m.clip(in, w, w)) > 0 {
			found = append(found, interval{w, w})
		}
		if free == ^mask {
			break
		}
		free = ((free | mask) + 1) &^ mask
	}
	if want {
		return found
	}
	for _, iv := range found {
		in = m.without(in, iv.lo)
	}
	return in
}

// maxPieces is how many pieces of an interval are looked at one by one.
const maxPieces = 8

// pieces is refine for intervals in which the bits outside of mask have few
// values: where they have one, the words are in the order of their masked bits,
// and the test is one of whole words. It is false if there are too many.
func (m *sets) pieces(in []interval, mask uint32, op uint16, k uint32, want bool) ([]interval, bool) {
	step := ^mask & -^mask // the lowest bit outside of mask
	if k&^mask != 0 || len(in) == 0 || uint64(len(in))+uint64(in[len(in)-1].hi-in[0].lo)/uint64(step) > maxPieces {
		return nil, false
	}
	var out []interval
	for _, iv := range in {
		for lo := iv.lo; ; {
			hi := min(lo|(step-1), iv.hi)
			part := m.whole([]interval{{lo, hi}}, op, k|lo&^mask, want)
			if n := len(out); n > 0 && len(part) > 0 && out[n-1].hi+1 == part[0].lo {
				out[n-1].hi = part[0].hi
				part = part[1:]
			}
			out = append(out, part...)
			if hi == iv.hi {
				break
			}
			lo = hi + 1
		}
	}
	return out, true
}

// whole returns the words of in for which the test word op k has the outcome
// want.
func (m *sets) whole(in []interval, op uint16, k uint32, want bool) []interval {
	switch {
	case op != Jeq:
		return m.ordered(in, op, k, want)
	case want:
		return m.clip(in, k, k)
	}
	return m.without(in, k)
}

// ordered returns the words of in that are above k, or from k on, or not.
func (m *sets) ordered(in []interval, op uint16, k uint32, want bool) []interval {
	if op == Jgt {
		if k == maxWord {
			if want {
				return nil
			}
			return in
		}
		k++
	}
	switch {
	case want:
		return m.clip(in, k, maxWord)
	case k == 0:
		return nil
	}
	return m.clip(in, 0, k-1)
}

// outcomes says which outcomes the test (word & mask) op k has for the words of
// d, which is not empty.
func (m *sets) outcomes(d domain, mask uint32, op uint16, k uint32) (yes, no bool) {
	if mask == 0 {
		yes = holds(op, 0, k)
		return yes, !yes
	}
	if mask != maxWord || d.masked != nil || op == Jset {
		_, yes = m.refine(d, mask, op, k, true)
		_, no = m.refine(d, mask, op, k, false)
		return yes, no
	}
	lowest, highest := d.in[0].lo, d.in[len(d.in)-1].hi
	if op != Jeq {
		return holds(op, highest, k), !holds(op, lowest, k)
	}
	for _, iv := range d.in {
		yes = yes || iv.lo <= k && k <= iv.hi
	}
	return yes, lowest != k || highest != k
}

func holds(op uint16, a, k uint32) bool {
	switch op {
	case Jeq:
		return a == k
	case Jgt:
		return a > k
	case Jge:
		return a >= k
	}
	return a&k != 0
}

// witness returns a word of d, the smallest if d has no masked tests. It is
// false if d is empty.
func (d domain) witness() (uint32, bool) {
	if len(d.in) == 0 {
		return 0, false
	}
	if d.masked == nil {
		return d.in[0].lo, true
	}
	if t := d.masked; t.next == nil && t.op == Jeq && d.in[0] == (interval{0, maxWord}) {
		switch {
		case t.want:
			return t.k, t.k&^t.mask == 0
		case t.k != 0:
			return 0, true
		}
		return t.mask & -t.mask, t.mask != 0
	}
	var s search
	for t := d.masked; t != nil; t = t.next {
		s.tests = append(s.tests, *t)
	}
	for _, iv := range d.in {
		// The borders are tests like the others.
		n := len(s.tests)
		s.tests = append(s.tests, maskedTest{op: Jge, want: true, mask: maxWord, k: iv.lo}, maskedTest{op: Jgt, want: false, mask: maxWord, k: iv.hi})
		if w, ok := s.find(); ok {
			return w, true
		}
		s.tests = s.tests[:n]
	}
	return 0, false
}

// search looks for a word that passes tests. It chooses bits from the highest
// on; each test compares its bits with those of its constant and is open until
// they differ. Which tests are open is all that lower bits need to know.
type search struct {
	tests []maskedTest
	dead  map[string]bool // open tests, below a bit, from which no way leads on
}

func (s *search) find() (uint32, bool) {
	s.dead = map[string]bool{}
	open := make([]byte, len(s.tests)+1)
	for i := range s.tests {
		open[i] = 1
	}
	return s.bits(31, open)
}

// bits chooses the bits from the given one on down.
func (s *search) bits(bit int, open []byte) (uint32, bool) {
	if bit < 0 {
		return 0, s.end(open)
	}
	open[len(s.tests)] = byte(bit)
	if s.dead[string(open)] {
		return 0, false
	}
	next := make([]byte, len(open))
	for b := range uint32(2) {
		copy(next, open)
		if !s.step(next, bit, b) {
			continue
		}
		if w, ok := s.bits(bit-1, next); ok {
			return w | b<<bit, true
		}
	}
	s.dead[string(open)] = true
	return 0, false
}

// step closes the tests that choosing b decides. It is false if one fails.
func (s *search) step(open []byte, bit int, b uint32) bool {
	for i := range s.tests {
		t := &s.tests[i]
		have, want := b&(t.mask>>bit), t.k>>bit&1
		if open[i] == 0 || have == want {
			continue
		}
		if (t.op != Jeq && have > want) != t.want {
			return false
		}
		open[i] = 0
	}
	return true
}

// end reports whether the tests hold that are open, since all bits are equal.
func (s *search) end(open []byte) bool {
	for i := range s.tests {
		if open[i] == 1 && (s.tests[i].op != Jgt) != s.tests[i].want {
			return false
		}
	}
	return true
}
