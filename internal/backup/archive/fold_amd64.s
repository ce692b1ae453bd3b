#include "textflag.h"

// func foldBlocks(state *[2]uint64, p *byte, blocks int, far, near *[2]uint64)
//
// Four lanes of 16 bytes each: a lane moves over 64 bytes by two carry-less multiplications, is
// added to what stands there, and in the end the lanes move over each other by 16 bytes.
TEXT ·foldBlocks(SB), NOSPLIT, $0-40
	MOVQ  state+0(FP), DI
	MOVQ  p+8(FP), SI
	MOVQ  blocks+16(FP), CX
	MOVQ  far+24(FP), AX
	MOVQ  near+32(FP), BX
	MOVOU (AX), X15
	MOVOU (BX), X14
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU (DI), X4
	PXOR  X4, X0
	ADDQ  $64, SI
	DECQ  CX
	JZ    join

loop:
	MOVO      X0, X4
	MOVO      X1, X5
	MOVO      X2, X6
	MOVO      X3, X7
	PCLMULQDQ $0x00, X15, X0
	PCLMULQDQ $0x00, X15, X1
	PCLMULQDQ $0x00, X15, X2
	PCLMULQDQ $0x00, X15, X3
	PCLMULQDQ $0x11, X15, X4
	PCLMULQDQ $0x11, X15, X5
	PCLMULQDQ $0x11, X15, X6
	PCLMULQDQ $0x11, X15, X7
	MOVOU     (SI), X8
	MOVOU     16(SI), X9
	MOVOU     32(SI), X10
	MOVOU     48(SI), X11
	PXOR      X4, X0
	PXOR      X5, X1
	PXOR      X6, X2
	PXOR      X7, X3
	PXOR      X8, X0
	PXOR      X9, X1
	PXOR      X10, X2
	PXOR      X11, X3
	ADDQ      $64, SI
	DECQ      CX
	JNZ       loop

join:
	MOVO      X0, X4
	PCLMULQDQ $0x00, X14, X0
	PCLMULQDQ $0x11, X14, X4
	PXOR      X4, X0
	PXOR      X0, X1
	MOVO      X1, X4
	PCLMULQDQ $0x00, X14, X1
	PCLMULQDQ $0x11, X14, X4
	PXOR      X4, X1
	PXOR      X1, X2
	MOVO      X2, X4
	PCLMULQDQ $0x00, X14, X2
	PCLMULQDQ $0x11, X14, X4
	PXOR      X4, X2
	PXOR      X2, X3
	MOVOU     X3, (DI)
	RET
