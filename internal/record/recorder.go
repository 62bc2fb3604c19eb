package record

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

//go:embed bpf/record_amd64.o
var recordObject []byte

//go:embed bpf/denials_amd64.o
var denialsObject []byte

// tracepoints are the programs and their trace points, in the order in which
// they are attached: whoever is new must be known before calls are counted.
var tracepoints = [...]string{
	"task_newtask", "sched_process_exec", "sched_process_exit", "cap_capable", "sys_exit", "sys_enter",
}

const noCapabilities = "this kernel has no trace point cap_capable (Linux 6.14): capabilities are not recorded"

// Recorder holds the loaded programs. Its methods and those of its sessions may
// be called from several goroutines.
type Recorder struct {
	mu       sync.Mutex
	coll     *ebpf.Collection
	denials  bool // nothing else is recorded
	args     *argTable
	notes    []string
	links    []link.Link
	sessions []*Session // by place in the maps; nil: free
	used     []bool     // places whose maps are not empty
	last     uint32     // number of the last session
	symbols  symbols
}

// Open loads the programs for at most n recordings at once. Nothing is attached.
// Memory in the kernel is about 4 MB and 120 KB for each recording, 45 KB more
// of it for each processor.
//
// file keeps the programs as they fit this kernel, which takes most of the time
// to find out; it is made and renewed as needed, in a directory that must be
// there and only root's. "" keeps nothing.
func Open(n int, file string) (*Recorder, error) {
	if n < 1 {
		return nil, fmt.Errorf("open a recorder for %d recordings: at least 1 is needed", n)
	}
	return openFile(file, n, newArgTable())
}

// openFile loads what the file has, or else the object's programs; those that
// record denials alone if there are no arguments to keep.
func openFile(file string, n int, args *argTable) (*Recorder, error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("recording is not possible on %s: only on amd64", runtime.GOARCH)
	}
	var key string
	if file != "" {
		key, _ = preparedKey(objectFor(args), args)
	}
	if key != "" {
		if p := readPrepared(file, key); p != nil {
			r, err := p.open(n, args)
			if err == nil || errors.Is(err, unix.EPERM) {
				return r, err
			} // else the file may be spoilt
		}
	}
	cache, has, err := kernelTypes()
	if err != nil {
		return nil, err
	}
	p, err := fit(cache, has, args)
	if err != nil {
		return nil, err
	}
	p.Key = key
	r, err := p.open(n, args)
	if err == nil && key != "" {
		p.write(file) // else the next one takes as long
	}
	return r, err
}

func objectFor(args *argTable) []byte {
	if args == nil {
		return denialsObject
	}
	return recordObject
}

// kernelTypes reads the kernel's types, and returns what tells whether it has a
// trace point.
func kernelTypes() (*btf.Cache, func(tracepoint string) bool, error) {
	cache := btf.NewCache()
	kernel, err := cache.Kernel()
	if err != nil {
		return nil, nil, fmt.Errorf("read the kernel's types, which recording needs (CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	return cache, func(tracepoint string) bool {
		var typedef *btf.Typedef
		return kernel.TypeByName("btf_trace_"+tracepoint, &typedef) == nil
	}, nil
}

// fit fits the programs whose trace points there are to the kernel.
func fit(cache *btf.Cache, has func(tracepoint string) bool, args *argTable) (*prepared, error) {
	kernel, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(objectFor(args)))
	if err != nil {
		return nil, fmt.Errorf("read the recorder's programs: %w", err)
	}
	for _, name := range tracepoints {
		switch {
		case has(name):
		case name == "cap_capable":
			delete(spec.Programs, name)
		default:
			return nil, fmt.Errorf("this kernel has no trace point %s, which recording needs (CONFIG_FTRACE_SYSCALLS)", name)
		}
	}
	spec.Maps["lost"].MaxEntries = uint32(len(lostNames))
	if args != nil {
		if err := args.set(spec); err != nil {
			return nil, fmt.Errorf("prepare the recorder's programs: %w", err)
		}
	}
	return prepare(spec, kernel)
}

// open loads the programs.
func (p *prepared) open(n int, args *argTable) (*Recorder, error) {
	coll, err := p.load(uint32(n))
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("load the recorder's programs, which takes root of this machine: %w", unix.EPERM)
	case err != nil:
		return nil, fmt.Errorf("load the recorder's programs: %w", err)
	}
	r := &Recorder{coll: coll, args: args, denials: args == nil, sessions: make([]*Session, n), used: make([]bool, n)}
	if coll.Programs["cap_capable"] == nil {
		r.notes = append(r.notes, noCapabilities)
	}
	return r, nil
}

// set puts the tables of arguments into a spec, and makes room for what is kept.
func (t *argTable) set(spec *ebpf.CollectionSpec) error {
	spec.Maps["counts"].MaxEntries = slots
	spec.Maps["firsts"].MaxEntries = slots
	spec.Maps["argsets"].MaxEntries = t.places
	return errors.Join(
		spec.Variables["arg_mask"].Set(t.mask),
		spec.Variables["arg_wide"].Set(t.wide),
		spec.Variables["arg_first"].Set(t.first),
		spec.Variables["arg_sets"].Set(t.places),
	)
}

// Close ends all recordings and unloads the programs.
func (r *Recorder) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range r.sessions {
		if s != nil {
			s.ended = true
			r.sessions[i] = nil
		}
	}
	r.detach()
	r.coll.Close()
}

// attach attaches the programs, if they are not.
func (r *Recorder) attach() error {
	if len(r.links) > 0 {
		return nil
	}
	if r.last > 1 { // since an earlier recording, tasks have ended unseen
		if err := r.clearSeats(); err != nil {
			return fmt.Errorf("forget the tasks of ended recordings: %w", err)
		}
	}
	for _, name := range tracepoints {
		program := r.coll.Programs[name]
		if program == nil {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: program, AttachType: ebpf.AttachTraceRawTp})
		if err != nil {
			r.detach()
			return fmt.Errorf("attach to the trace point %s: %w", name, err)
		}
		r.links = append(r.links, l)
	}
	return nil
}

// detach detaches the programs, the costly ones first.
func (r *Recorder) detach() {
	for _, l := range slices.Backward(r.links) {
		l.Close()
	}
	r.links = nil
}

// misses returns how often the kernel left out each program because it was
// running already on that processor.
func (r *Recorder) misses() (map[string]uint64, error) {
	missed := map[string]uint64{}
	for name, program := range r.coll.Programs {
		stats, err := program.Stats()
		if err != nil {
			return nil, fmt.Errorf("read the statistics of the program %s: %w", name, err)
		}
		missed[name] = stats.RecursionMisses
	}
	return missed, nil
}
