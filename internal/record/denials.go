package record

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// OpenDenials loads programs that see nothing but denials: calls are not
// counted, and neither arguments nor granted capabilities are kept, so that
// Recording.Syscalls is empty. It takes one recording at a time, whose targets
// are cgroups with AtExec. Nothing is attached.
//
// file keeps the programs as they fit this kernel, which takes most of the time
// to find out; it is made and renewed as needed, in a directory that must be
// there and only root's. "" keeps nothing.
func OpenDenials(file string) (*Recorder, error) {
	var key string
	if file != "" {
		key, _ = preparedKey(denialsObject)
	}
	if key != "" {
		if p := readPrepared(file, key); p != nil {
			r, err := openPrepared(p)
			if err == nil || errors.Is(err, unix.EPERM) {
				return r, loadError(err)
			} // else the file may be spoilt
		}
	}
	cache, has, err := kernelTypes()
	if err != nil {
		return nil, err
	}
	p, err := prepareDenials(key, cache, has)
	if err != nil {
		return nil, err
	}
	r, err := openPrepared(p)
	if err == nil && key != "" {
		p.write(file) // else the next one takes as long
	}
	return r, loadError(err)
}

// prepareDenials fits the programs to the kernel.
func prepareDenials(key string, cache *btf.Cache, has func(tracepoint string) bool) (*prepared, error) {
	kernel, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(denialsObject))
	if err != nil {
		return nil, fmt.Errorf("read the recorder's programs: %w", err)
	}
	spec.Maps["lost"].MaxEntries = uint32(len(lostNames))
	if !has("cap_capable") {
		delete(spec.Programs, "cap_capable")
	}
	return prepare(key, spec, kernel)
}

func openPrepared(p *prepared) (*Recorder, error) {
	coll, err := p.load()
	if err != nil {
		return nil, err
	}
	r := &Recorder{coll: coll, denials: true, sessions: make([]*Session, 1), used: make([]bool, 1)}
	if coll.Programs["cap_capable"] == nil {
		r.notes = append(r.notes, noCapabilities)
	}
	return r, nil
}

// refusals reports whether a call failed after a capability was refused: only
// then does it matter why the kernel asked, which takes the kernel's symbols.
func (s *Session) refusals() (bool, error) {
	var key mapDenialKey
	var d mapDenial
	entries := s.r.coll.Maps["denials"].Iterate()
	for entries.Next(&key, &d) {
		if key.Session == s.number && key.Reason == byCapability {
			return true, nil
		}
	}
	return false, entries.Err()
}
