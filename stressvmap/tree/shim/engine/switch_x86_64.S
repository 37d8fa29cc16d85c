/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * void sv_switch_sp(void **left, void *entered): leave a stack for another.
 *
 * What a function must keep for its caller goes onto the stack that is left; the floating point control words
 * are the same everywhere, for no task changes them.
 */
#if defined(__x86_64__) && !defined(SV_UCONTEXT)
	.text
	.globl	sv_switch_sp
	.hidden	sv_switch_sp
	.type	sv_switch_sp, @function
sv_switch_sp:
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
	.size	sv_switch_sp, . - sv_switch_sp
#endif
	.section .note.GNU-stack, "", @progbits
