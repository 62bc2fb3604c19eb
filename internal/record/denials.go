package record

import (
	"bytes"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// OpenDenials loads programs that see nothing but denials: calls are not
// counted, and neither arguments nor granted capabilities are kept, so that
// Recording.Syscalls is empty. It takes one recording at a time, whose targets
// are cgroups with AtExec. Nothing is attached.
func OpenDenials() (*Recorder, error) {
	cache, has, err := kernelTypes()
	if err != nil {
		return nil, err
	}
	return openDenials(cache, has)
}

func openDenials(cache *btf.Cache, has func(tracepoint string) bool) (*Recorder, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(denialsObject))
	if err != nil {
		return nil, fmt.Errorf("read the recorder's programs: %w", err)
	}
	r := &Recorder{denials: true, sessions: make([]*Session, 1), used: make([]bool, 1)}
	spec.Maps["lost"].MaxEntries = uint32(len(lostNames))
	if err := r.load(spec, cache, has); err != nil {
		return nil, err
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
