#include "textflag.h"

// func prefetch(p, step uintptr)
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ step+8(FP), BX
	PREFETCHT0 (AX)
	PREFETCHT0 64(AX)
	LEAQ (BX)(BX*2), CX
	PREFETCHT0 (AX)(BX*1)
	PREFETCHT0 64(AX)(BX*1)
	PREFETCHT0 (AX)(CX*1)
	PREFETCHT0 64(AX)(CX*1)
	RET

// func prefetchLines(p, n uintptr)
TEXT ·prefetchLines(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), BX
	ADDQ AX, BX

line:
	PREFETCHT0 (AX)
	ADDQ $64, AX
	CMPQ AX, BX
	JCS  line
	RET
