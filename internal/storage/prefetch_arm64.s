#include "textflag.h"

// func prefetch(p, step uintptr)
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	MOVD step+8(FP), R1
	PRFM (R0), PLDL1KEEP
	PRFM 64(R0), PLDL1KEEP
	ADD R1, R0, R2
	PRFM (R2), PLDL1KEEP
	PRFM 64(R2), PLDL1KEEP
	ADD R1<<1, R2, R2
	PRFM (R2), PLDL1KEEP
	PRFM 64(R2), PLDL1KEEP
	RET

// func prefetchLines(p, n uintptr)
TEXT ·prefetchLines(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	MOVD n+8(FP), R1
	ADD  R0, R1, R1

line:
	PRFM (R0), PLDL1KEEP
	ADD  $64, R0, R0
	CMP  R1, R0
	BLO  line
	RET
