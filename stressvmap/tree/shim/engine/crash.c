// SPDX-License-Identifier: GPL-2.0-only
/*
 * A crash or an endless loop in the code under test is a result, never the end of the process.
 *
 * The handlers stand on a stack of their own, for a task's may have overflowed, and leave it for the hub. A
 * signal that comes while no task runs, or in another thread, goes to whoever handled it before. The tick
 * counts the CPU time of the thread that runs tasks: a timer of that thread, not the process's
 * ITIMER_VIRTUAL, of which there is but one and whose signal any thread may get.
 */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "internal.h"

#define TICK_NANOSECONDS 100000000
#define STALE_TICKS 2 /* without a new point, and a run is ended */
#define HANDLER_STACK_BYTES 65536
#define PAGE 4096
#define UNKNOWN UINTPTR_MAX
#define POISON ((uintptr_t)0x6b6b6b6b6b6b6b6b) /* what nobody wrote reads as */

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

volatile int sv_in_task;
uintptr_t sv_constants_end;
char sv_crash_text[128];

static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
#define CRASH_SIGNALS (sizeof(crash_signals) / sizeof(crash_signals[0]))

static struct sigaction before[NSIG];
static uintptr_t text_low, text_high, image_high; /* of this library: its code, and its end */
static char handler_stack[HANDLER_STACK_BYTES];
static pthread_t runner;
static bool has_runner;
static timer_t timer;
static uint64_t points_at_tick, switches_at_tick;
static int stale_ticks;

/* The text of the code under test, if the build has given it a section of its own. */
extern const char __start_ktext[] __attribute__((weak, visibility("hidden")));
extern const char __stop_ktext[] __attribute__((weak, visibility("hidden")));

static uintptr_t interrupted_pc(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return context->uc_mcontext.pc;
#else
	(void)context;
	return 0;
#endif
}

/* Where a call to nowhere came from. */
static uintptr_t caller_pc(const ucontext_t *context)
{
#if defined(__x86_64__)
	return *(const uintptr_t *)(uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
	return context->uc_mcontext.regs[30];
#else
	(void)context;
	return 0;
#endif
}

static bool is_text_apart(void)
{
	return (uintptr_t)__start_ktext != (uintptr_t)__stop_ktext;
}

static bool is_under_test(uintptr_t pc)
{
	if (is_text_apart())
		return pc >= (uintptr_t)__start_ktext && pc < (uintptr_t)__stop_ktext;
	return pc >= text_low && pc < text_high;
}

/*
 * Where the code under test is: the instruction that was interrupted if it is of that code; else it has
 * called something, and noted from where when the engine was last entered.
 */
static void note_place(struct sv_task *task, uintptr_t pc)
{
	/* As if it were a return address, for all others are. */
	if (is_under_test(pc) && (is_text_apart() || !task->pc))
		task->pc = sv_place_of((const void *)pc) + 1;
}

/* Sent by somebody, not caused by the code that runs: but abort() sends its signal to itself. */
static bool is_sent(int signal, const siginfo_t *info)
{
	return info->si_code <= 0 && !(signal == SIGABRT && info->si_code == SI_TKILL);
}

static bool is_ours(void)
{
	return sv_in_task && has_runner && pthread_equal(pthread_self(), runner);
}

/* Somebody else's signal: as if this handler were not there. */
static void pass_on(int signal, siginfo_t *info, void *context)
{
	const struct sigaction *old = &before[signal];

	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(signal, info, context);
	} else if (old->sa_handler == SIG_DFL) {
		/* A fault comes again when this returns; what was sent by raise() must be sent again. */
		sigaction(signal, old, NULL);
		if (info->si_code <= 0)
			raise(signal);
	} else if (old->sa_handler != SIG_IGN) {
		old->sa_handler(signal);
	}
}

/* ---------------------------------------------------------------- crashes */

static bool is_in_guard(const struct sv_task *task, uintptr_t address)
{
	return (uintptr_t)task->stack_low - address <= SV_GUARD_BYTES;
}

static void say(const char *format, uintptr_t address)
{
	snprintf(sv_crash_text, sizeof(sv_crash_text), format, (unsigned long)address);
}

/* The processor does not say which address it was if it was no canonical one: see who was to use such. */
static uintptr_t bad_address(const struct sv_task *task, const siginfo_t *info)
{
	if (info->si_code != SI_KERNEL)
		return (uintptr_t)info->si_addr;
	if (task->touched >> 47)
		return task->touched;
	return task->pending_object >> 47 ? task->pending_object : UNKNOWN;
}

/* As ModelBackend tells of a pointer that is none. */
static void describe_address(const struct sv_task *task, uintptr_t address)
{
	uintptr_t library = (uintptr_t)__ehdr_start;

	if (address == UNKNOWN)
		say("wild pointer dereference", 0);
	else if (address < PAGE)
		say("NULL pointer dereference", 0);
	else if (address - POISON < PAGE)
		say("uninitialised pointer dereference", 0);
	else if (address > UINTPTR_MAX - PAGE)
		say("error pointer dereference", 0);
	else if (is_in_guard(task, address))
		say("stack overflow", 0);
	else if (address - library < image_high - library) /* the same text wherever the library lies */
		say("wild pointer dereference at the library's 0x%lx", address - library);
	else
		say("wild pointer dereference at 0x%lx", address);
}

static void describe(int signal, const struct sv_task *task, const siginfo_t *info)
{
	static const char *const names[] = {
		[SIGILL] = "illegal instruction",
		[SIGFPE] = "divide error",
		[SIGABRT] = "abort",
	};

	if (signal == SIGSEGV || signal == SIGBUS)
		describe_address(task, bad_address(task, info));
	else
		say(names[signal], 0);
}

static void on_crash(int signal, siginfo_t *info, void *context)
{
	uintptr_t pc;

	if (!is_ours() || is_sent(signal, info)) {
		pass_on(signal, info, context);
		return;
	}
	pc = interrupted_pc(context);
	if (pc == (uintptr_t)info->si_addr && !is_under_test(pc))
		pc = caller_pc(context) - 1;
	describe(signal, sv_current, info);
	note_place(sv_current, pc);
	sv_unwrite();
	sv_land(SV_LANDED_CRASH);
}

/* ---------------------------------------------------------------- endless loops */

/* The handler is left for good: a tick may come again. */
static void let_ticks_come(void)
{
	sigset_t tick;

	sigemptyset(&tick);
	sigaddset(&tick, SIGVTALRM);
	pthread_sigmask(SIG_UNBLOCK, &tick, NULL);
}

static void on_tick(int signal, siginfo_t *info, void *context)
{
	if (info->si_code != SI_TIMER || info->si_value.sival_ptr != &timer) {
		pass_on(signal, info, context);
		return;
	}
	if (!is_ours() || sv_points != points_at_tick || sv_switches != switches_at_tick) {
		points_at_tick = sv_points;
		switches_at_tick = sv_switches;
		stale_ticks = 0;
	} else {
		stale_ticks++;
	}
	if (sv_stop_requested)
		sv_attend_at = 0;
	if (stale_ticks < STALE_TICKS)
		return;
	stale_ticks = 0;
	say("an endless loop", 0);
	note_place(sv_current, interrupted_pc(context));
	let_ticks_come();
	sv_land(SV_LANDED_LOOP);
}

/* ---------------------------------------------------------------- arming */

static int find_text(struct dl_phdr_info *library, size_t size, void *unused)
{
	(void)size, (void)unused;
	if (library->dlpi_addr != (uintptr_t)__ehdr_start)
		return 0;
	for (int i = 0; i < library->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &library->dlpi_phdr[i];
		uintptr_t start = library->dlpi_addr + part->p_vaddr;

		if (part->p_type != PT_LOAD)
			continue;
		if (part->p_flags & PF_X) {
			text_low = start;
			text_high = start + part->p_memsz;
		}
		if (part->p_flags & PF_W && !sv_constants_end)
			sv_constants_end = start;
		image_high = start + part->p_memsz;
	}
	return 1;
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | flags };

	action.sa_sigaction = handler;
	sigemptyset(&action.sa_mask);
	sigaction(signal, &action, &before[signal]);
}

/* A child of fork has the handlers, but neither the timer nor, perhaps, the thread. */
static void forget_runner(void)
{
	has_runner = false;
}

void sv_crash_boot(void)
{
	dl_iterate_phdr(find_text, NULL);
	for (size_t i = 0; i < CRASH_SIGNALS; i++)
		handle(crash_signals[i], on_crash, SA_NODEFER);
	/* Each library of a process has a timer: ticks that come together must not stand on each other's frames. */
	handle(SIGVTALRM, on_tick, 0);
	pthread_atfork(NULL, NULL, forget_runner);
}

bool sv_crash_arm(void)
{
	const struct itimerspec period = {
		.it_interval.tv_nsec = TICK_NANOSECONDS,
		.it_value.tv_nsec = TICK_NANOSECONDS,
	};
	const stack_t stack = { .ss_sp = handler_stack, .ss_size = sizeof(handler_stack) };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM };

	if (has_runner && pthread_equal(pthread_self(), runner))
		return true;
	event.sigev_value.sival_ptr = &timer;
	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	if (has_runner)
		timer_delete(timer);
	has_runner = false;
	if (sigaltstack(&stack, NULL) || timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) ||
	    timer_settime(timer, 0, &period, NULL)) {
		sv_set_error("the thread cannot be given a stack for signals and a timer");
		return false;
	}
	runner = pthread_self();
	has_runner = true;
	return true;
}
