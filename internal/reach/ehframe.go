package reach

// readFrames returns the code of the functions that .eh_frame describes, as a
// file has it for unwinding (Linux Standard Base, "Exception Frames").
// What cannot be read is left out.
func (m *image) readFrames() []span {
	addr, data := m.findFrames()
	var out []span
	encodings := map[uint64]byte{} // of a CIE by its address
	for len(data) >= 4 {
		size, skip := uint64(order.Uint32(data)), uint64(4)
		if size == 0 {
			break
		}
		if size == 0xffffffff && len(data) >= 12 {
			size, skip = order.Uint64(data[4:]), 12
		}
		if size > uint64(len(data))-skip || size < 4 {
			break
		}
		record := frameReader{m, data[skip : skip+size], addr + skip}
		id := uint64(order.Uint32(record.data))
		if cie := record.addr - id; id == 0 {
			record.skip(4)
			encodings[addr] = record.cieEncoding()
		} else if enc, ok := encodings[cie]; ok {
			record.skip(4)
			if s, ok := record.fde(enc); ok && m.isCode(s.lo) {
				out = append(out, m.skipReturn(s))
			}
		}
		data, addr = data[skip+size:], addr+skip+size
	}
	return disjoint(out)
}

// skipReturn takes off the byte that glibc's frame of the code to which signal
// handlers return has before its start, for the unwinder's sake
// (sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c).
func (m *image) skipReturn(s span) span {
	b := m.bytes(s.lo, 10)
	if s.hi-s.lo == 10 && b != nil && b[8] == 0x0f && b[9] == 0x05 {
		s.lo++
	}
	return s
}

// findFrames returns where .eh_frame is: by its section, else by the header
// that the unwinder itself uses.
func (m *image) findFrames() (uint64, []byte) {
	for _, s := range m.sections {
		if s.name == ".eh_frame" {
			return s.lo, m.bytes(s.lo, s.hi-s.lo)
		}
	}
	h := m.at(m.ehHeader.lo)
	if m.ehHeader.lo == 0 || len(h) < 12 || h[0] != 1 {
		return 0, nil
	}
	r := frameReader{m, h[4:], m.ehHeader.lo + 4}
	addr, ok := r.pointer(h[1])
	if !ok {
		return 0, nil
	}
	return addr, m.at(addr)
}

// frameReader reads the fields of one record.
type frameReader struct {
	m    *image
	data []byte
	addr uint64 // of data
}

func (r *frameReader) skip(n int) {
	n = min(n, len(r.data))
	r.data, r.addr = r.data[n:], r.addr+uint64(n)
}

func (r *frameReader) byte() byte {
	if len(r.data) == 0 {
		return 0
	}
	b := r.data[0]
	r.skip(1)
	return b
}

// leb reads a LEB128 number, of which only the low 64 bits count.
func (r *frameReader) leb() uint64 {
	v := uint64(0)
	for shift := uint(0); len(r.data) > 0; shift += 7 {
		b := r.byte()
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b&0x80 == 0 {
			break
		}
	}
	return v
}

const pointerOmitted = 0xff // DW_EH_PE_omit

// cieEncoding returns how the FDEs of this CIE write addresses.
func (r *frameReader) cieEncoding() byte {
	version := r.byte()
	augmentation := cString(r.data)
	r.skip(len(augmentation) + 1)
	r.leb() // code alignment
	r.leb() // data alignment
	if version == 1 {
		r.byte() // return address register
	} else {
		r.leb()
	}
	for i, c := range augmentation {
		switch c {
		case 'z':
			r.leb()
		case 'R':
			return r.byte()
		case 'L':
			r.byte()
		case 'P':
			r.pointer(r.byte())
		case 'S', 'B':
		default:
			if i > 0 || c != 'e' {
				return pointerOmitted
			}
		}
	}
	return 0
}

// fde returns the code that an FDE describes.
func (r *frameReader) fde(enc byte) (span, bool) {
	lo, ok := r.pointer(enc)
	size, ok2 := r.pointer(enc & 0x0f)
	if !ok || !ok2 || size == 0 || lo+size < lo {
		return span{}, false
	}
	return span{lo, lo + size}, true
}

// pointer reads an address by its DW_EH_PE encoding: absolute or relative to
// its own place. No others occur in files for x86-64.
func (r *frameReader) pointer(enc byte) (uint64, bool) {
	size := [16]int{0: 8, 2: 2, 3: 4, 4: 8, 10: 2, 11: 4, 12: 8}[enc&0x0f]
	if size == 0 || enc == pointerOmitted || len(r.data) < size {
		return 0, false
	}
	base := uint64(0)
	switch enc & 0x70 {
	case 0:
	case 0x10:
		base = r.addr
	default:
		return 0, false
	}
	v := uint64(0)
	for i := size - 1; i >= 0; i-- {
		v = v<<8 | uint64(r.data[i])
	}
	if enc&0x08 != 0 {
		shift := 64 - 8*uint(size)
		v = uint64(int64(v<<shift) >> shift)
	}
	r.skip(size)
	return base + v, true
}
