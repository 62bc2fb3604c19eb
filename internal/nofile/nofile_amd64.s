#include "textflag.h"

// func getrlimit(limit *[2]uint64) int64
TEXT ·getrlimit(SB), NOSPLIT, $0-16
	MOVQ $302, AX // prlimit64
	XORQ DI, DI
	MOVQ $7, SI   // RLIMIT_NOFILE
	XORQ DX, DX
	MOVQ limit+0(FP), R10
	SYSCALL
	MOVQ AX, ret+8(FP)
	RET
