package record

import (
	"errors"
	"fmt"
	"iter"
	mathbits "math/bits"
	"slices"

	"github.com/cilium/ebpf"
)

// clear empties a place's part of the arrays, for its next session.
func (s *Session) clear() error {
	if err := s.clearArrays(); err != nil {
		return fmt.Errorf("clear the last recording: %w", err)
	}
	return nil
}

func (s *Session) clearArrays() error {
	maps := s.r.coll.Maps
	if !s.r.denials {
		if err := s.clearCounts(); err != nil {
			return err
		}
	}
	for i := range uint32(len(lostNames)) {
		if err := maps["lost"].Put(s.place*uint32(len(lostNames))+i, uint64(0)); err != nil {
			return err
		}
	}
	return maps["seen"].Put(s.place, mapSeen{})
}

func (s *Session) clearCounts() error {
	maps := s.r.coll.Maps
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	none := make([]mapCount, cpus)
	seen, err := s.seen()
	if err != nil {
		return err
	}
	for slot := range seen.slots() {
		place := s.place*slots + slot
		if err := errors.Join(maps["counts"].Put(place, none), maps["firsts"].Put(place, mapFirst{})); err != nil {
			return err
		}
	}
	for i := range s.r.args.places {
		if err := maps["argsets"].Put(s.place*s.r.args.places+i, mapArgset{}); err != nil {
			return err
		}
	}
	return nil
}

// clearSeats empties the seats, of which those of tasks that ended while nothing
// was attached would be taken for ever.
func (r *Recorder) clearSeats() error {
	if r.denials {
		return nil
	}
	return r.fillSeats(mapSeat{})
}

// fillSeats makes all seats alike.
func (r *Recorder) fillSeats(like mapSeat) error {
	places := make([]uint32, seats)
	for i := range places {
		places[i] = uint32(i)
	}
	_, err := r.coll.Maps["seats"].BatchUpdate(places, slices.Repeat([]mapSeat{like}, seats), nil)
	return err
}

// seen returns what the programs found out about the recording.
func (s *Session) seen() (*mapSeen, error) {
	var seen mapSeen
	err := s.r.coll.Maps["seen"].Lookup(s.place, &seen)
	return &seen, err
}

// slots are those in use, in order.
func (m *mapSeen) slots() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i, bits := range m.Slots {
			for ; bits != 0; bits &= bits - 1 {
				if !yield(uint32(i*64 + mathbits.TrailingZeros64(bits))) {
					return
				}
			}
		}
	}
}

// forget deletes the session's entries of the hash maps, which all sessions
// share.
func (s *Session) forget() {
	maps := s.r.coll.Maps
	if !s.r.denials {
		forget[mapOddKey, mapCount](maps["odds"], func(k *mapOddKey) bool { return k.Session == s.number })
	}
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
