#include "textflag.h"

// func entry()
//
// What the kernel jumps to, with the arguments on the stack (System V ABI, AMD64
// supplement, 3.4.1). Go's functions find the goroutine in the thread's storage and
// keep it in a register: they get some that is empty. Go's own start sets both anew.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVQ $158, AX       // arch_prctl
	MOVQ $0x1002, DI    // ARCH_SET_FS
	LEAQ ·storage+64(SB), SI
	SYSCALL
	MOVQ SP, BX
	SUBQ $32, SP
	ANDQ $~15, SP
	MOVQ BX, 0(SP)
	MOVQ BX, 16(SP)
	CALL ·sealFrom(SB)
	MOVQ 16(SP), SP
	JMP  _rt0_amd64_linux(SB)

// Zeros, around the address that FS has.
GLOBL ·storage(SB), NOPTR, $128
