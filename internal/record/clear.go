package record

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// clear empties a place's part of the arrays, for its next session.
func (s *Session) clear() error {
	maps := s.r.coll.Maps
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("clear the last recording: %w", err)
	}
	none := make([]mapCount, cpus)
	for slot := range uint32(slots) {
		place := s.place*slots + slot
		if err := maps["counts"].Put(place, none); err != nil {
			return fmt.Errorf("clear the last recording: %w", err)
		}
		if err := maps["firsts"].Put(place, mapFirst{}); err != nil {
			return fmt.Errorf("clear the last recording: %w", err)
		}
	}
	for i := range s.r.args.places {
		if err := maps["argsets"].Put(s.place*s.r.args.places+i, mapArgset{}); err != nil {
			return fmt.Errorf("clear the last recording: %w", err)
		}
	}
	for i := range uint32(len(lostNames)) {
		if err := maps["lost"].Put(s.place*uint32(len(lostNames))+i, uint64(0)); err != nil {
			return fmt.Errorf("clear the last recording: %w", err)
		}
	}
	return nil
}

// forget deletes the session's entries of the hash maps, which all sessions
// share.
func (s *Session) forget() {
	maps := s.r.coll.Maps
	forget[mapOddKey, mapCount](maps["odds"], func(k *mapOddKey) bool { return k.Session == s.number })
	forget[mapDenialKey, mapDenial](maps["denials"], func(k *mapDenialKey) bool { return k.Session == s.number })
	forget[mapCapabilityKey, mapCapability](maps["capabilities"], func(k *mapCapabilityKey) bool { return k.Session == s.number })
}

func forget[K, V any](m *ebpf.Map, own func(*K) bool) {
	var keys []K
	var key K
	var value V
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if own(&key) {
			keys = append(keys, key)
		}
	}
	for i := range keys {
		m.Delete(&keys[i])
	}
}
