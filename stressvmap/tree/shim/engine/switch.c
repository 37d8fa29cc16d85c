// SPDX-License-Identifier: GPL-2.0-only
/*
 * From one stack to another: in assembly on x86-64, by ucontext elsewhere or if SV_UCONTEXT is defined (which
 * saves the signal mask each time, a system call).
 */
#include "internal.h"

#if defined(__x86_64__) && !defined(SV_UCONTEXT)

void sv_switch_sp(void **left, void *entered);

static void *hub_sp;

void sv_prepare_context(struct sv_task *task)
{
	void **sp = task->stack_high;

	*--sp = NULL; /* where sv_task_main would return to, and so the alignment of a call */
	*--sp = (void *)sv_task_main;
	for (int i = 0; i < 6; i++) /* what sv_switch_sp pops */
		*--sp = NULL;
	task->sp = sp;
}

void sv_switch_stacks(struct sv_task *from, struct sv_task *to)
{
	sv_switch_sp(from ? &from->sp : &hub_sp, to ? to->sp : hub_sp);
}

#else

#include <ucontext.h>

static ucontext_t hub, contexts[SV_TASKS + 1];

void sv_prepare_context(struct sv_task *task)
{
	ucontext_t *context = &contexts[task->number];

	getcontext(context);
	context->uc_stack.ss_sp = task->stack_low;
	context->uc_stack.ss_size = SV_STACK_BYTES;
	context->uc_link = NULL;
	makecontext(context, sv_task_main, 0);
}

void sv_switch_stacks(struct sv_task *from, struct sv_task *to)
{
	swapcontext(from ? &contexts[from->number] : &hub, to ? &contexts[to->number] : &hub);
}

#endif
