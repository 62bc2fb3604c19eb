package bpf

import (
	"fmt"
	"strings"
)

// Known is what is known of a word of an argument: that it is in one of the
// ranges or, if there are none, how its masked bits compare.
type Known struct {
	Word     string  `json:"word"` // "arg0.lo", "arg0.hi", or "arg0" if the high word is 0
	Ranges   []Range `json:"ranges,omitempty"`
	Mask     uint32  `json:"mask,omitempty"`
	Relation string  `json:"relation,omitempty"` // as "=="
	Value    uint32  `json:"value,omitempty"`
}

// Range is the words from First to Last.
type Range struct {
	First uint32 `json:"first"`
	Last  uint32 `json:"last"`
}

// String returns the range as "0x3-0x7" or "0x10".
func (r Range) String() string {
	if r.First == r.Last {
		return fmt.Sprintf("%#x", r.First)
	}
	return fmt.Sprintf("%#x-%#x", r.First, r.Last)
}

// String returns what is known as "arg0: 0x3-0x7, 0x10" or "arg0.lo & 0x3 != 0x2".
func (k Known) String() string {
	if len(k.Ranges) == 0 {
		return fmt.Sprintf("%s & %#x %s %#x", k.Word, k.Mask, k.Relation, k.Value)
	}
	texts := make([]string, len(k.Ranges))
	for i, r := range k.Ranges {
		texts[i] = r.String()
	}
	return k.Word + ": " + strings.Join(texts, ", ")
}

// where describes what is known of the arguments.
func (s *state) where() []Known {
	var list []Known
	arch := s.words[wordArch].in[0].lo // as in the example
	for arg := range 6 {
		low := s.words[OffArg(arch, arg, false)/4]
		high := s.words[OffArg(arch, arg, true)/4]
		name := fmt.Sprintf("arg%d", arg)
		if high.masked == nil && len(high.in) == 1 && high.in[0].hi == 0 {
			list = low.append(list, name)
			continue
		}
		list = high.append(list, name+".hi")
		list = low.append(list, name+".lo")
	}
	return list
}

// append appends what is known of a word.
func (d domain) append(list []Known, word string) []Known {
	if len(d.in) != 1 || d.in[0] != (interval{0, maxWord}) {
		k := Known{Word: word}
		for _, iv := range d.in {
			k.Ranges = append(k.Ranges, Range{iv.lo, iv.hi})
		}
		list = append(list, k)
	}
	for t := d.masked; t != nil; t = t.next {
		list = append(list, Known{Word: word, Mask: t.mask, Relation: t.relation(), Value: t.k})
	}
	return list
}

// relation returns how the bits compare that t tests.
func (t *maskedTest) relation() string {
	switch {
	case t.op == Jeq && t.want:
		return "=="
	case t.op == Jeq:
		return "!="
	case t.op == Jge && t.want:
		return ">="
	case t.op == Jge:
		return "<"
	case t.want:
		return ">"
	}
	return "<="
}
