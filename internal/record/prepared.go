package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// prepared are programs with the running kernel's offsets and type IDs put in,
// and the maps that they need: all that takes the kernel's types, which are
// some 5 MB to read. They hold for one build of the kernel.
type prepared struct {
	Key      string
	Maps     []preparedMap
	Programs []preparedProgram
}

type preparedMap struct {
	Name                           string
	Type                           ebpf.MapType
	Flags                          uint32
	KeySize, ValueSize, MaxEntries uint32
	Each                           bool   // MaxEntries is for each recording
	Constants                      []byte `json:",omitempty"` // all that is in it
}

type preparedProgram struct {
	Name   string
	Attach ebpf.AttachType
	Type   btf.TypeID // of the trace point or iterator
	Code   []byte
	Maps   []mapUse
	// BTF and Funcs tell the kernel which functions stand for themselves: it
	// checks those once, not at each call. They are empty if there are none.
	BTF   []byte `json:",omitempty"`
	Funcs []byte `json:",omitempty"` // struct bpf_func_info
}

// mapUse is an instruction that wants a map's descriptor.
type mapUse struct {
	At  asm.RawInstructionOffset
	Map string
}

// kernelNotes has the build ID of the kernel.
const kernelNotes = "/sys/kernel/notes"

// preparedKey names the kernel's build and the programs. No key, no keeping.
func preparedKey(object []byte, args *argTable) (string, error) {
	notes, err := os.ReadFile(kernelNotes)
	if err != nil {
		return "", err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, part := range [][]byte{{1}, notes, uts.Release[:], uts.Version[:], object, fmt.Appendf(nil, "%v", args)} {
		binary.Write(sum, binary.LittleEndian, uint64(len(part)))
		sum.Write(part)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// prepare puts the kernel's offsets into the programs of a spec.
func prepare(spec *ebpf.CollectionSpec, kernel *btf.Spec) (*prepared, error) {
	p := &prepared{}
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		m := spec.Maps[name]
		one := preparedMap{Name: name, Type: m.Type, Flags: m.Flags, KeySize: m.KeySize, ValueSize: m.ValueSize, MaxEntries: m.MaxEntries}
		one.Each = name != "seats" && (m.Type == ebpf.Array || m.Type == ebpf.PerCPUArray)
		if name == constants {
			one.Constants, one.Each = constantsOf(spec), false
		}
		p.Maps = append(p.Maps, one)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		one, err := prepareProgram(spec.Programs[name], kernel)
		if err != nil {
			return nil, fmt.Errorf("fit the program %s to this kernel: %w", name, err)
		}
		one.Name = name
		p.Programs = append(p.Programs, *one)
	}
	return p, nil
}

// constants is the map of what programs know before they are loaded.
const constants = ".rodata"

func constantsOf(spec *ebpf.CollectionSpec) []byte {
	b := make([]byte, spec.Maps[constants].ValueSize)
	for _, v := range spec.Variables {
		if v.SectionName == constants {
			copy(b[v.Offset:], v.Value)
		}
	}
	return b
}

// attachPoint is the type that says what a program is given.
func attachPoint(spec *ebpf.ProgramSpec, kernel *btf.Spec) (btf.TypeID, error) {
	if spec.AttachType == ebpf.AttachTraceIter {
		var iterator *btf.Func
		if err := kernel.TypeByName("bpf_iter_"+spec.AttachTo, &iterator); err != nil {
			return 0, err
		}
		return kernel.TypeID(iterator)
	}
	var tracepoint *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+spec.AttachTo, &tracepoint); err != nil {
		return 0, err
	}
	return kernel.TypeID(tracepoint)
}

func prepareProgram(spec *ebpf.ProgramSpec, kernel *btf.Spec) (*preparedProgram, error) {
	p := &preparedProgram{Attach: spec.AttachType}
	var err error
	if p.Type, err = attachPoint(spec, kernel); err != nil {
		return nil, err
	}
	if err := p.describe(spec.Instructions); err != nil {
		return nil, err
	}
	code := slices.Clone(spec.Instructions)
	if err := relocate(code, spec.ByteOrder, kernel); err != nil {
		return nil, err
	}
	for i := code.Iterate(); i.Next(); {
		if !i.Ins.IsLoadFromMap() {
			continue
		}
		p.Maps = append(p.Maps, mapUse{i.Offset, i.Ins.Reference()})
		if err := i.Ins.AssociateMap(noMap{}); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	if err := code.Marshal(&b, spec.ByteOrder); err != nil {
		return nil, err
	}
	p.Code = b.Bytes()
	return p, nil
}

// describe sets BTF and Funcs if there is a function that needs it.
func (p *preparedProgram) describe(code asm.Instructions) error {
	global := func(ins asm.Instruction) bool {
		f := btf.FuncMetadata(&ins)
		return f != nil && f.Linkage == btf.GlobalFunc
	}
	if !slices.ContainsFunc(code[1:], global) { // the first is the program's own
		return nil
	}
	var types btf.Builder
	var err error
	if p.Funcs, _, err = btf.MarshalExtInfos(code, &types); err != nil {
		return err
	}
	p.BTF, err = types.Marshal(nil, btf.KernelMarshalOptions())
	return err
}

// noMap stands for a map that does not exist yet.
type noMap struct{}

func (noMap) FD() int { return 0 }

// relocate changes instructions to the offsets of the kernel's structures.
func relocate(code asm.Instructions, order binary.ByteOrder, kernel *btf.Spec) error {
	var wanted []*btf.CORERelocation
	var where []*asm.Instruction
	for i := code.Iterate(); i.Next(); {
		if r := btf.CORERelocationMetadata(i.Ins); r != nil {
			wanted, where = append(wanted, r), append(where, i.Ins)
		}
	}
	var local btf.Builder
	fixups, err := btf.CORERelocate(wanted, []*btf.Spec{kernel}, order, local.Add)
	if err != nil {
		return err
	}
	for i, f := range fixups {
		if err := f.Apply(where[i]); err != nil {
			return err
		}
	}
	return nil
}

// load makes the maps, for n recordings, and loads the programs.
func (p *prepared) load(n uint32) (*ebpf.Collection, error) {
	coll := &ebpf.Collection{Programs: map[string]*ebpf.Program{}, Maps: map[string]*ebpf.Map{}}
	if err := p.loadInto(coll, n); err != nil {
		coll.Close()
		return nil, err
	}
	return coll, nil
}

func (p *prepared) loadInto(coll *ebpf.Collection, n uint32) error {
	for i := range p.Maps {
		m, err := p.Maps[i].make(n)
		if err != nil {
			return err
		}
		coll.Maps[p.Maps[i].Name] = m
	}
	// The kernel checks a program for half a millisecond and more.
	programs, errs := make([]*ebpf.Program, len(p.Programs)), make([]error, len(p.Programs))
	var all sync.WaitGroup
	for i := range p.Programs {
		all.Go(func() { programs[i], errs[i] = p.Programs[i].load(coll.Maps) })
	}
	all.Wait()
	for i, program := range programs {
		if program != nil {
			coll.Programs[p.Programs[i].Name] = program
		}
	}
	return errors.Join(errs...)
}

func (m *preparedMap) make(n uint32) (*ebpf.Map, error) {
	spec := &ebpf.MapSpec{Name: m.Name, Type: m.Type, Flags: m.Flags, KeySize: m.KeySize, ValueSize: m.ValueSize, MaxEntries: m.MaxEntries}
	if m.Each {
		spec.MaxEntries *= n
	}
	if m.Constants != nil {
		spec.Contents = []ebpf.MapKV{{Key: uint32(0), Value: m.Constants}}
	}
	if m.Type == ebpf.TaskStorage { // has to say what it holds
		spec.Key = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
		spec.Value = &btf.Array{Index: spec.Key, Type: &btf.Int{Name: "char", Size: 1}, Nelems: m.ValueSize}
	}
	made, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("make the map %s: %w", m.Name, err)
	}
	return made, nil
}

// progLoad is the part of union bpf_attr that BPF_PROG_LOAD uses,
// include/uapi/linux/bpf.h.
type progLoad struct {
	progType, insnCount               uint32
	insns, license                    unsafe.Pointer
	logLevel, logSize                 uint32
	logBuf                            unsafe.Pointer
	kernelVersion, flags              uint32
	name                              [16]byte
	ifindex, attachType               uint32
	btfFD, funcInfoSize               uint32
	funcInfo                          unsafe.Pointer
	funcInfoCount, lineInfoSize       uint32
	lineInfo                          unsafe.Pointer
	lineInfoCount, attachBTFID        uint32
	attachFD, coreReloCount           uint32
	fdArray, coreRelos                unsafe.Pointer
	coreReloSize, lastLogSize, pad, _ uint32
}

func (p *preparedProgram) load(into map[string]*ebpf.Map) (*ebpf.Program, error) {
	code := slices.Clone(p.Code)
	for _, use := range p.Maps {
		m, imm := into[use.Map], use.At.Bytes()+4
		if m == nil || imm+4 > uint64(len(code)) {
			return nil, fmt.Errorf("load the program %s: instruction %d uses the map %q, which is not there", p.Name, use.At, use.Map)
		}
		binary.NativeEndian.PutUint32(code[imm:], uint32(m.FD()))
	}
	if len(code) == 0 {
		return nil, fmt.Errorf("load the program %s: it is empty", p.Name)
	}
	license := []byte("GPL\x00")
	attr := progLoad{
		progType: unix.BPF_PROG_TYPE_TRACING, insnCount: uint32(len(code) / asm.InstructionSize),
		insns: unsafe.Pointer(&code[0]), license: unsafe.Pointer(&license[0]),
		attachType: uint32(p.Attach), attachBTFID: uint32(p.Type),
	}
	copy(attr.name[:15], p.Name)
	if len(p.Funcs) > 0 {
		types, err := btf.NewHandleFromRawBTF(p.BTF)
		if err != nil {
			return nil, fmt.Errorf("load the types of the program %s: %w", p.Name, err)
		}
		defer types.Close()
		attr.btfFD, attr.funcInfoSize = uint32(types.FD()), btf.FuncInfoSize
		attr.funcInfo, attr.funcInfoCount = unsafe.Pointer(&p.Funcs[0]), uint32(len(p.Funcs))/btf.FuncInfoSize
	}
	fd, err := loadProgram(&attr)
	if err != nil {
		return nil, fmt.Errorf("load the program %s: %w", p.Name, err)
	}
	return ebpf.NewProgramFromFD(fd)
}

// loadProgram tries again when the kernel's check was broken off by a signal, as
// Go's scheduler sends them: that is EAGAIN (kernel/bpf/verifier.c, do_check).
func loadProgram(attr *progLoad) (int, error) {
	for try := 0; ; try++ {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		switch {
		case errno == 0:
			return int(fd), nil
		case errno != unix.EAGAIN || try == 100:
			return -1, errno
		}
	}
}

// readPrepared returns what the file has for the key, or nil.
func readPrepared(file, key string) *prepared {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	p := &prepared{}
	if json.Unmarshal(b, p) != nil || p.Key != key {
		return nil
	}
	return p
}

// write keeps the programs in a file, which appears whole.
func (p *prepared) write(file string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "new-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
