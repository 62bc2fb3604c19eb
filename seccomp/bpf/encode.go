package bpf

import (
	"encoding/binary"
	"fmt"
)

// instructionSize is the size of struct sock_filter in bytes.
const instructionSize = 8

// Encode returns prog as an array of struct sock_filter in the given order of
// bytes: what seccomp(2) takes and programs such as bubblewrap read from a
// file.
func Encode(prog []Instruction, order binary.ByteOrder) []byte {
	data := make([]byte, 0, instructionSize*len(prog))
	for _, in := range prog {
		var b [instructionSize]byte
		order.PutUint16(b[:], in.Op)
		b[2], b[3] = in.JT, in.JF
		order.PutUint32(b[4:], in.K)
		data = append(data, b[:]...)
	}
	return data
}

// Decode reads what [Encode] writes. If data does not end with a whole
// instruction, it returns those before and an error.
func Decode(data []byte, order binary.ByteOrder) ([]Instruction, error) {
	prog := make([]Instruction, 0, len(data)/instructionSize)
	for b := data; len(b) >= instructionSize; b = b[instructionSize:] {
		prog = append(prog, Instruction{Op: order.Uint16(b), JT: b[2], JF: b[3], K: order.Uint32(b[4:])})
	}
	if len(data)%instructionSize != 0 {
		return prog, fmt.Errorf("%d bytes are no whole number of instructions of %d bytes", len(data), instructionSize)
	}
	return prog, nil
}
