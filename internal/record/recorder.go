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
// Memory in the kernel is about 3 MB and 120 KB for each recording, 45 KB more
// of it for each processor.
func Open(n int) (*Recorder, error) {
	if n < 1 {
		return nil, fmt.Errorf("open a recorder for %d recordings: at least 1 is needed", n)
	}
	cache, has, err := kernelTypes()
	if err != nil {
		return nil, err
	}
	return open(n, cache, has)
}

// kernelTypes reads the kernel's types, and returns what tells whether it has a
// trace point.
func kernelTypes() (*btf.Cache, func(tracepoint string) bool, error) {
	if runtime.GOARCH != "amd64" {
		return nil, nil, fmt.Errorf("recording is not possible on %s: only on amd64", runtime.GOARCH)
	}
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

func open(n int, cache *btf.Cache, has func(tracepoint string) bool) (*Recorder, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(recordObject))
	if err != nil {
		return nil, fmt.Errorf("read the recorder's programs: %w", err)
	}
	r := &Recorder{args: newArgTable(), sessions: make([]*Session, n), used: make([]bool, n)}
	if err := r.prepare(spec, uint32(n)); err != nil {
		return nil, fmt.Errorf("prepare the recorder's programs: %w", err)
	}
	if err := r.load(spec, cache, has); err != nil {
		return nil, err
	}
	return r, nil
}

// load loads the programs whose trace points the kernel has.
func (r *Recorder) load(spec *ebpf.CollectionSpec, cache *btf.Cache, has func(tracepoint string) bool) error {
	kernel, err := cache.Kernel()
	if err != nil {
		return fmt.Errorf("read the kernel's types: %w", err)
	}
	if !has("cap_capable") {
		delete(spec.Programs, "cap_capable")
		r.notes = append(r.notes, noCapabilities)
	}
	r.coll, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Cache: cache,
		// Without this, the types of all modules are read too.
		Programs: ebpf.ProgramOptions{KernelTypes: kernel},
	})
	return loadError(err)
}

func loadError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("load the recorder's programs, which takes root of the host: %w", err)
	case err != nil:
		return fmt.Errorf("load the recorder's programs: %w", err)
	}
	return nil
}

// prepare sets what depends on the number of recordings and on the tables of
// system calls.
func (r *Recorder) prepare(spec *ebpf.CollectionSpec, n uint32) error {
	spec.Maps["recordings"].MaxEntries = n
	spec.Maps["seen"].MaxEntries = n
	spec.Maps["counts"].MaxEntries = n * slots
	spec.Maps["firsts"].MaxEntries = n * slots
	spec.Maps["argsets"].MaxEntries = n * r.args.places
	spec.Maps["lost"].MaxEntries = n * uint32(len(lostNames))
	return errors.Join(
		spec.Variables["arg_mask"].Set(r.args.mask),
		spec.Variables["arg_wide"].Set(r.args.wide),
		spec.Variables["arg_first"].Set(r.args.first),
		spec.Variables["arg_sets"].Set(r.args.places),
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
