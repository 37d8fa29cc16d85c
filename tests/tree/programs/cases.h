/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the code under test of the engine's own tests asks of its little kernel, and the operations there are.
 */
#ifndef CASES_H
#define CASES_H

#include "engine.h"

#define CASES(X)                                                                                        \
	X(increment) X(increment_locked) X(write_sizes) X(write_unaligned) X(copy)                      \
	X(read_after_free) X(write_after_free) X(free_twice) X(read_unwritten) X(read_racy)             \
	X(read_beyond) X(use_stack) X(leave_on_stack) X(read_from_stack) X(share_stack) X(dirty) X(atomics) X(read_null) X(write_null)       \
	X(read_wild) X(read_uninitialised_pointer) X(read_error_pointer) X(write_constant) X(call_null) X(divide) X(abort_here) X(trap) X(overflow)         \
	X(loop_quiet) X(loop_plain) X(loop_volatile) X(interrupt_here)

/* Operations of the kernel, on CPUs and tasks. */
#define CPU_CASES(X)                                                                                    \
	X(pinned_points) X(irqs_off_points) X(raise_irq) X(wake_daemon) X(draw_points) X(move_to)       \
	X(points) X(take_lock_and_die) X(may_fail) X(ask_to_stop) X(lock_twice) X(sleep_for_ever)       \
	X(free_boot)

#define DECLARE(name) void case_##name(uint32_t n);
CASES(DECLARE)
CPU_CASES(DECLARE)
#undef DECLARE

void lock(void);
void unlock(void);
void *allocate(size_t size, const char *type, bool zeroed);
void release(void *object);

#endif
