//go:build ignore

package main

import (
	"bytes"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	tracefs   = "/sys/kernel/tracing/events/syscalls"
	typesFile = "argtypes.txt"
	entryFile = "entries.txt"
)

// readTracefs brings argtypes.txt up to date with the entry points of the
// running kernel. It keeps the others, which newer or larger kernels have.
func readTracefs() {
	entries := readTypes()
	files, err := filepath.Glob(tracefs + "/sys_enter_*/format")
	if err != nil || len(files) < 300 {
		log.Fatalf("%s: only %d entry points: %v", tracefs, len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			log.Fatal(err)
		}
		name := strings.TrimPrefix(filepath.Base(filepath.Dir(f)), "sys_enter_")
		entries[name] = strings.Join(fields(string(text)), ", ")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The arguments of the kernel's entry points for system calls, from\n# %s of kernels for x86-64. Made by gen.go -trace.\n\n", tracefs)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		fmt.Fprintf(&b, "%s\n", strings.TrimSpace(name+": "+entries[name]))
	}
	if err := os.WriteFile(typesFile, b.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}

var field = regexp.MustCompile(`(?m)^\tfield:([^;]+);\toffset:\d+;`)

// fields returns the arguments of one format file.
func fields(text string) (args []string) {
	for _, m := range field.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(m[1], " common_") && !strings.HasSuffix(m[1], " __syscall_nr") {
			args = append(args, m[1])
		}
	}
	return args
}

func readTypes() map[string]string {
	entries := map[string]string{}
	for _, l := range lines(typesFile) {
		name, args, ok := strings.Cut(l, ":")
		if !ok {
			log.Fatalf("%s: %q", typesFile, l)
		}
		entries[name] = strings.TrimSpace(args)
	}
	return entries
}

func lines(file string) (list []string) {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range strings.Split(string(text), "\n") {
		if l != "" && !strings.HasPrefix(l, "#") {
			list = append(list, l)
		}
	}
	return list
}

// entries says which arguments a call takes.
type entries struct {
	args map[string]string // of an entry point, or of a call on one table, as "call table"
	runs map[string]string // the entry point of a call, or of "call table"
}

func readEntries() entries {
	e := entries{map[string]string{}, map[string]string{}}
	for _, l := range lines(entryFile) {
		at := strings.IndexAny(l, ":=")
		if at < 0 {
			log.Fatalf("%s: %q", entryFile, l)
		}
		head, value := strings.Fields(l[:at]), strings.TrimSpace(l[at+1:])
		keys := head[:1]
		for i, abi := range head[1:] {
			if !slices.Contains(arches[:], abi) {
				log.Fatalf("%s: unknown ABI %q", entryFile, abi)
			}
			if i == 0 {
				keys = nil
			}
			keys = append(keys, head[0]+" "+abi)
		}
		to := e.args
		if l[at] == '=' {
			to = e.runs
		}
		for _, k := range keys {
			if _, ok := to[k]; ok {
				log.Fatalf("%s: %s again", entryFile, k)
			}
			to[k] = value
		}
	}
	for name, args := range readTypes() {
		if _, ok := e.args[name]; !ok {
			e.args[name] = args
		}
	}
	return e
}

// find returns the arguments of a call on one table.
func (e *entries) find(call, table string) (string, bool) {
	for _, key := range []string{call + " " + table, call} {
		if entry, ok := e.runs[key]; ok {
			key = entry
			if _, ok := e.args[key]; !ok {
				log.Fatalf("%s: no entry point %s", entryFile, key)
			}
		}
		if args, ok := e.args[key]; ok {
			return args, true
		}
	}
	return "", false
}

// How the kernel reads an argument; see args.go.
const (
	word = iota // 64 bits, or 32 on ABIs of 32 bits
	int32s
	int16s
	pair // 64 bits, in two arguments on ABIs of 32 bits
)

// types has how the kernel reads arguments of each type that is no pointer.
var types = func() map[string]int {
	list := map[string]int{}
	for kind, names := range [...]string{
		word: `long,unsigned long,size_t,ssize_t,off_t,uintptr_t,aio_context_t,old_sigset_t,
			__sighandler_t,cap_user_header_t,cap_user_data_t`,
		int32s: `int,unsigned int,unsigned,u32,__u32,__s32,pid_t,uid_t,gid_t,clockid_t,timer_t,mqd_t,
			key_t,key_serial_t,qid_t,rwf_t,enum landlock_rule_type,compat_ulong_t,compat_long_t,
			compat_size_t,compat_ssize_t,compat_uptr_t,compat_aio_context_t`,
		int16s: `umode_t,old_uid_t,old_gid_t`,
		pair:   `loff_t,u64,__u64`,
	} {
		for _, name := range strings.Split(names, ",") {
			list[strings.TrimSpace(name)] = kind
		}
	}
	return list
}()

// narrowed are arguments that the kernel declares as long or size_t and then
// turns into 32 bits before it looks at them: file descriptors go to
// fdget(unsigned int) and fget(unsigned int), numbers of segments to
// import_iovec(..., unsigned nr_segs, ...), a pid to
// find_get_task_by_vpid(pid_t), clone takes lower_32_bits, mbind has
// int lmode = mode, and personality goes to ksys_personality(unsigned int).
var narrowed = strings.Fields(`
	mmap.fd mmap2.fd readv.fd writev.fd preadv.fd pwritev.fd preadv2.fd pwritev2.fd kcmp.idx1
	readv.vlen writev.vlen preadv.vlen pwritev.vlen preadv2.vlen pwritev2.vlen vmsplice.nr_segs
	process_vm_readv.liovcnt process_vm_writev.liovcnt process_madvise.vlen
	ptrace.pid clone.clone_flags mbind.mode personality.personality`)

var isNarrowed = map[string]bool{}

// shape packs how the kernel reads each argument, two bits each, and from bit
// 12 on their number.
func shape(call, args string) int {
	if args == "" {
		return 0
	}
	list := strings.Split(args, ", ")
	if len(list) > 6 {
		log.Fatalf("%s: %d arguments", call, len(list))
	}
	bits, pairs := len(list)<<12, false
	for i, arg := range list {
		at := strings.LastIndexByte(arg, ' ')
		kind, ok := types[strings.TrimPrefix(arg[:max(at, 0)], "const ")]
		if !ok && !strings.Contains(arg, "*") {
			log.Fatalf("%s: unknown type of %q", call, arg)
		}
		if key := call + "." + arg[at+1:]; slices.Contains(narrowed, key) {
			kind = int32s
			isNarrowed[key] = true
		}
		if kind == int16s && pairs {
			log.Fatalf("%s: %q has another place on ABIs of 32 bits", call, arg)
		}
		pairs = pairs || kind == pair
		bits |= kind << (2 * i)
	}
	return bits
}

// signature is what calls with the same arguments share.
type signature struct {
	args  string
	shape int
}

// forms are the signatures of all calls.
type forms struct {
	signatures []signature
	variants   []int    // indexes in signatures: those of the first call, of the second...
	first      []int    // by call: its first variant
	pick       []uint32 // by call: two bits for each table, added to first
}

// unknown is the first of the signatures.
var unknown = signature{shape: 15 << 12}

func makeForms(names []string, slots [tables]map[string]int) forms {
	e := readEntries()
	f := forms{signatures: []signature{unknown}}
	index := map[signature]int{unknown: 0}
	for _, name := range names {
		var own []int
		var pick uint32
		for t, table := range arches {
			sig := unknown
			if _, has := slots[t][name]; has {
				if args, ok := e.find(name, table); ok {
					sig = signature{args, shape(name, args)}
				}
			}
			i, ok := index[sig]
			if !ok {
				i = len(f.signatures)
				index[sig] = i
				f.signatures = append(f.signatures, sig)
			}
			if !slices.Contains(own, i) {
				own = append(own, i)
			}
			pick |= uint32(slices.Index(own, i)) << (2 * t)
		}
		if len(own) > 4 {
			log.Fatalf("%s: %d signatures", name, len(own))
		}
		f.first, f.pick = append(f.first, len(f.variants)), append(f.pick, pick)
		f.variants = append(f.variants, own...)
	}
	if len(isNarrowed) != len(narrowed) {
		log.Fatalf("narrowed has arguments that no call has; it does have %v", slices.Sorted(maps.Keys(isNarrowed)))
	}
	return f
}

// write writes the tables that args.go describes.
func (f *forms) write(b *bytes.Buffer) {
	var params []string
	for _, s := range f.signatures {
		if s.args != "" {
			params = append(params, strings.Split(s.args, ", ")...)
		}
	}
	slices.Sort(params)
	params = slices.Compact(params)
	fmt.Fprintf(b, "\nconst paramText = \"\" +\n")
	ends, at := []int{0}, 0
	for i, p := range params {
		at += len(p)
		ends = append(ends, at)
		fmt.Fprintf(b, "%q", p)
		if i < len(params)-1 {
			fmt.Fprintf(b, " +\n")
		}
	}
	fmt.Fprintf(b, "\n")
	var args, starts, shapes []int
	for _, s := range f.signatures {
		starts, shapes = append(starts, len(args)), append(shapes, s.shape)
		if s.args == "" {
			continue
		}
		for _, p := range strings.Split(s.args, ", ") {
			i, _ := slices.BinarySearch(params, p)
			args = append(args, i)
		}
	}
	writeList(b, "paramEnd", "uint16", ends)
	writeList(b, "params", "uint16", args)
	writeList(b, "starts", "uint16", starts)
	writeList(b, "shapes", "uint16", shapes)
	writeList(b, "variants", "uint16", f.variants)
	writeList(b, "firstVariant", "uint16", f.first)
	writeList(b, "pickVariant", "uint32", f.pick)
}

func writeList[T int | uint32](b *bytes.Buffer, name, kind string, list []T) {
	fmt.Fprintf(b, "\nvar %s = [...]%s{", name, kind)
	for i, n := range list {
		if i%16 == 0 {
			fmt.Fprintf(b, "\n")
		}
		fmt.Fprintf(b, "%d, ", n)
	}
	fmt.Fprintf(b, "\n}\n")
}
