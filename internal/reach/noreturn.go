package reach

import (
	"sort"
	"strings"
)

// maxCallDepth is how deep calls are followed to see whether they come back.
const maxCallDepth = 5

// comesBack reports whether the function that in calls can return. What is not
// known can. In Go, functions that have no RET come back by other ways.
func (c *codeMap) comesBack(in *inst, target uint64, depth int) bool {
	if c.golang {
		return !panics(c.functionAt(target))
	}
	if slot, ok := c.stub(target); ok {
		r, ok := c.relocationAt(slot)
		return !ok || r.sym == 0 || !neverReturns(c.symbolName(r.sym))
	}
	i := sort.Search(len(c.funcs), func(i int) bool { return c.funcs[i].addr >= target })
	for ; i < len(c.funcs) && c.funcs[i].addr == target; i++ {
		if neverReturns(c.funcs[i].name) {
			return false
		}
	}
	n := c.chunkAt(target)
	if n == noChunk || c.chunks[n].lo != target || depth >= maxCallDepth {
		return true
	}
	if back, ok := c.returns[n]; ok {
		return back
	}
	if c.returns == nil {
		c.returns = map[chunk]bool{}
	}
	c.returns[n] = true // while it is looked at
	back := c.chunkReturns(c.chunks[n], depth)
	c.returns[n] = back
	return back
}

// panics knows the functions of Go's runtime that do not return.
func panics(name string) bool {
	for _, p := range []string{"runtime.panic", "runtime.gopanic", "runtime.goPanic", "runtime.throw", "runtime.fatal"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// neverReturns knows functions of C and C++ libraries.
func neverReturns(name string) bool {
	switch name {
	case "abort", "exit", "_exit", "_Exit", "quick_exit", "__stack_chk_fail", "__chk_fail", "__fortify_fail", "__libc_fatal",
		"__assert_fail", "__assert", "__assert_perror_fail", "pthread_exit", "_dl_fatal_printf",
		"longjmp", "siglongjmp", "__longjmp_chk", "_Unwind_Resume", "__cxa_throw", "__cxa_rethrow", "__cxa_bad_cast", "_ZSt9terminatev":
		return true
	}
	return false
}

// chunkReturns follows the code of a function from its start.
func (c *codeMap) chunkReturns(s span, depth int) bool {
	seen := map[uint64]bool{}
	work := []uint64{s.lo}
	var in inst
	for len(work) > 0 {
		at := work[len(work)-1]
		work = work[:len(work)-1]
		for !seen[at] {
			seen[at] = true
			if c.work++; c.work > maxWork || !s.has(at) || !decode(c.at(at), at, &in) {
				return true
			}
			kind, target := in.flow()
			at = in.end()
			switch kind {
			case flowStop:
				if in.op == 0xc3 || in.op == 0xc2 || in.op == 0xcb || in.op == 0xca || in.op == 0xcf {
					return true
				}
			case flowJumpMem:
				return true
			case flowJump, flowCond:
				if s.has(target) {
					work = append(work, target)
				} else if c.comesBack(&in, target, depth+1) {
					return true
				}
			}
			if kind == flowStop || kind == flowJump || kind == flowCall && !c.comesBack(&in, target, depth+1) {
				break
			}
		}
	}
	return false
}
