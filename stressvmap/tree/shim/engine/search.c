// SPDX-License-Identifier: GPL-2.0-only
/*
 * A systematic search over the schedules of one program: depth-first, stateless (each execution runs from the
 * start), and no beginning of an execution is gone on with twice.
 *
 * Beginnings that differ only in the order of independent steps lead to the same state (order.c), so what follows one
 * was seen when it follows the other: happens-before caching (Musuvathi, Qadeer: Partial-order reduction for
 * context-bounded state exploration, MSR-TR-2007-12). With a bound on preemptions (Musuvathi, Qadeer, PLDI 2007) two are
 * the same only if the same task may go on for nothing and as many preemptions are left.
 *
 * What was seen is kept as 64-bit numbers, so a search of n states may miss one with probability n^2 / 2^65.
 *
 * A step that leaves the state as it is (a task ran into a wait) is no step: the alternatives to it are all that there
 * is. Unless none of them is any better: then all wait for each other, and they are run into their waits, so that the
 * journal shows a deadlock.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"
#include "set.h"

#define NODES_RESERVED ((size_t)1 << 32)
#define LESSONS 4096 /* executions at random before a search, in which it learns who shares what */

struct node {
	uint64_t points; /* where the decision is due */
	uint64_t state;
	uint64_t first;	  /* of its alternatives, in `ids` */
	uint32_t count, at; /* how many there are, and which one is chosen */
	uint32_t idle;	    /* of those tried, steps that were none; at least as many as there were */
	uint32_t preemptions; /* before it */
	bool is_free;	    /* the task that ran last cannot go on: whoever is chosen, it is no preemption */
};

bool sv_is_searching;

static struct sv_area node_area, id_area, word_area;
static uint64_t node_count, id_count;
static uint64_t next_node; /* the first that has not been repeated in this execution */
static int32_t bound;	   /* on preemptions; negative: none */
static uint32_t preemptions;
static bool has_to_learn, is_learning;
static uint64_t lesson_seed;
static bool is_cut, is_forced, is_epilogue, is_broken, is_exhausted, is_every_new, is_resumed;
static struct set seen, classes;
static struct sv_search_counts counts;
static uint64_t class_hash;
static int reason;

static struct node *node_at(uint64_t number)
{
	return (struct node *)node_area.start + number;
}

static int32_t *ids_of(const struct node *node)
{
	return (int32_t *)id_area.start + node->first;
}

/* ---------------------------------------------------------------- decisions */

static bool is_preemption(const struct node *node)
{
	return !node->is_free && node->at > 0;
}

static bool may_preempt(void)
{
	return bound < 0 || preemptions < (uint32_t)bound;
}

static uint64_t key_now(const struct sv_task *task, bool is_free, uint32_t used)
{
	uint64_t state = sv_order_state(bound >= 0);

	if (bound < 0)
		return state;
	state ^= (uint64_t)(is_free ? 0 : task->id) << 32 | (uint32_t)(bound - (int32_t)used);
	return sv_mix(&state);
}

/* The same state with more preemptions left. */
static bool was_seen_with_more(const struct sv_task *task, bool is_free)
{
	for (uint32_t used = 0; used < preemptions; used++)
		if (contains(&seen, key_now(task, is_free, used)))
			return true;
	return false;
}

static struct sv_task *go_on_with(struct node *node, uint64_t *points)
{
	preemptions = node->preemptions + is_preemption(node);
	*points = may_preempt() ? 1 : SV_NEVER;
	return sv_task_by_id(ids_of(node)[node->at]);
}

/* `task` takes a step where no execution has been. */
static struct sv_task *watched(struct sv_task *task, bool is_private)
{
	if (bound < 0 && task) {
		sv_order_fold(); /* what was before is not its doing */
		sv_sharing_step(task, is_private);
	}
	return task;
}

/*
 * One whose next step concerns nobody else: there is no need to try another. Where the task that ran last can go on
 * that is asked of it alone.
 */
static struct sv_task *whoever_is_private(struct sv_task *task, bool is_free)
{
	const int32_t *enabled;
	uint32_t n = sv_enabled_ids(&enabled);

	if (bound >= 0)
		return NULL;
	if (!is_free)
		return sv_is_step_private(task) ? task : NULL;
	for (uint32_t i = 0; i < n; i++) {
		task = sv_task_by_id(enabled[i]);
		if (sv_is_step_private(task))
			return task;
	}
	return NULL;
}

/* Grant as far as the next decision that is not simply to go on; the last is one, for what follows it is new. */
static struct sv_task *repeat_to_next(struct sv_task *task, uint64_t *points)
{
	const struct node *node = node_at(next_node);

	while (next_node + 1 < node_count && !node->at && !node->is_free)
		node = node_at(++next_node);
	*points = node->is_free ? SV_NEVER : node->points - sv_points;
	return task;
}

static struct sv_task *break_off(void)
{
	is_broken = true;
	sv_set_error("an execution does not repeat itself");
	return NULL;
}

/* A decision of the executions before. */
static struct sv_task *repeat(struct sv_task *task, bool is_free, uint64_t *points)
{
	struct node *node = node_at(next_node);
	struct sv_task *chosen;

	if (node->points != sv_points || node->is_free != is_free)
		return sv_points < node->points && !is_free ? repeat_to_next(task, points) : break_off();
	next_node++;
	chosen = go_on_with(node, points);
	if (!chosen || !chosen->is_enabled)
		return break_off();
	return next_node < node_count ? repeat_to_next(chosen, points) : watched(chosen, false);
}

/* One without alternatives yet; `n` will come. */
static struct node *push_node(const struct node *what, uint32_t n)
{
	struct node *node;

	if (!sv_commit(&node_area, (node_count + 1) * sizeof(*node)) ||
	    !sv_commit(&id_area, (id_count + n) * sizeof(int32_t)))
		return NULL;
	node = node_at(node_count++);
	*node = *what;
	node->first = id_count;
	node->count = n;
	id_count += n;
	next_node = node_count;
	return node;
}

/* The task that ran last first, then the others by their ids. */
static struct node *new_node(const struct sv_task *task, bool is_free, uint64_t state)
{
	struct node what = { .points = sv_points, .state = state, .preemptions = preemptions, .is_free = is_free };
	const int32_t *enabled;
	uint32_t n = sv_enabled_ids(&enabled);
	struct node *node = push_node(&what, n);
	int32_t *ids;

	if (!node)
		return NULL;
	ids = ids_of(node);
	if (!is_free)
		*ids++ = task->id;
	for (uint32_t i = 0; i < n; i++)
		if (is_free || enabled[i] != task->id)
			*ids++ = enabled[i];
	return node;
}

/* No other need be tried. Where the task that ran last can go on there is no decision. */
static struct sv_task *take_private(struct sv_task *task, bool is_free)
{
	struct node what = { .points = sv_points, .preemptions = preemptions, .is_free = true };
	struct node *node;

	if (is_free) {
		node = push_node(&what, 1);
		if (!node)
			return break_off();
		*ids_of(node) = task->id;
	}
	return watched(task, true);
}

/* Whether the step that led here changed nothing; then all that can go on may have to be run into its wait. */
static bool was_idle(uint64_t state)
{
	struct node *last = node_count ? node_at(node_count - 1) : NULL;

	if (!last || last->state != state)
		return false;
	is_forced = ++last->idle >= last->count;
	is_cut = !is_forced;
	return true;
}

/* A decision where no execution has been. */
static struct sv_task *decide_anew(struct sv_task *task, bool is_free, uint64_t *points)
{
	const int32_t *enabled;
	struct sv_task *private;
	struct node *node;
	uint64_t state;

	*points = may_preempt() ? 1 : SV_NEVER;
	if (sv_enabled_ids(&enabled) == 1)
		return watched(sv_task_by_id(enabled[0]), false);
	sv_order_fold(); /* what the last step used may be news, but not of the next */
	private = whoever_is_private(task, is_free);
	if (private)
		return take_private(private, is_free);
	if (!is_free && !may_preempt())
		return task;
	state = key_now(task, is_free, preemptions);
	if (was_idle(state)) {
		*points = SV_NEVER;
		sv_sharing_pause();
		return is_cut ? NULL : sv_task_by_id(enabled[0]);
	}
	if ((bound >= 0 && was_seen_with_more(task, is_free)) || !insert(&seen, state)) {
		is_cut = true;
		return NULL;
	}
	node = new_node(task, is_free, state);
	if (!node)
		return break_off();
	return watched(go_on_with(node, points), false);
}

/* Mostly whoever ran last: what is shared shows where one task comes into another's way. */
static struct sv_task *choose_at_random(struct sv_task *task, bool is_free, uint64_t *points)
{
	const int32_t *enabled;
	uint32_t n = sv_enabled_ids(&enabled);
	uint64_t number = sv_mix(&lesson_seed);

	*points = 1;
	if (is_free || number % 16 == 0)
		task = sv_task_by_id(enabled[(number >> 8) % n]);
	return watched(task, sv_is_step_private(task));
}

struct sv_task *sv_search_choose(struct sv_task *task, uint64_t *points)
{
	bool is_free = !task || !task->is_enabled;
	const int32_t *enabled;
	uint32_t n = sv_enabled_ids(&enabled);

	if (is_learning)
		return choose_at_random(task, is_free, points);
	if (is_epilogue || is_forced) {
		*points = SV_NEVER;
		return is_free ? sv_task_by_id(enabled[0]) : task;
	}
	if (next_node >= node_count)
		return decide_anew(task, is_free, points);
	if (n == 1) /* nor was there a choice before */
		return repeat_to_next(sv_task_by_id(enabled[0]), points);
	return repeat(task, is_free, points);
}

/* Move on to the next execution; false if there is none. */
static bool advance(void)
{
	while (node_count) {
		struct node *node = node_at(node_count - 1);

		if (++node->at < node->count)
			return true;
		id_count = node->first;
		node_count--;
	}
	return false;
}

static void start_over(void)
{
	node_count = id_count = 0;
	clear(&seen);
	memset(&counts, 0, sizeof(counts));
	sv_sharing_begin();
}

/* ---------------------------------------------------------------- executions */

/* Whether the execution counts: of a bounded search, those with fewer preemptions counted under the bound before. */
static bool counts_now(void)
{
	return bound < 0 || preemptions == (uint32_t)bound;
}

static void count(void)
{
	counts.points += sv_points;
	if (is_cut) {
		counts.cut += counts_now();
		return;
	}
	counts.complete += reason != SV_STEPS_MAX && counts_now();
	counts.gave_up += reason == SV_STEPS_MAX;
	counts.deadlocks += reason == SV_DEADLOCK && counts_now();
}

/* What is learned so need not be found out by a search that then has to begin again. */
static void learn(void)
{
	is_learning = true;
	lesson_seed = 0;
	for (int i = 0; i < LESSONS; i++) {
		sv_sharing_pause();
		sv_begin_run();
		if (sv_run_tasks() == SV_STEPS_MAX)
			break; /* they are long: it will take its time anyway */
		sv_order_fold();
	}
	is_learning = false;
	if (!sv_order_begin() || !sv_sharing_begin()) /* nothing is void yet */
		is_broken = true;
}

/* One execution, to its end if it is of a new class. */
static enum sv_search_outcome execute(void)
{
	uint64_t drawn;

	next_node = 0;
	preemptions = 0;
	is_cut = is_forced = is_epilogue = false;
	make_room(&seen);
	make_room(&classes);
	sv_sharing_pause();
	sv_begin_run();
	reason = sv_run_tasks();
	sv_draws(&drawn);
	if (drawn) {
		sv_set_error("the code under test draws random numbers, which is not explored");
		is_broken = true;
	}
	if (sv_order_is_full())
		is_broken = true, sv_set_error("a run uses more memory than an exploration can keep apart");
	if (is_broken)
		return SV_SEARCH_FAILED;
	if (reason == SV_INTERRUPTED && !is_cut)
		return SV_SEARCH_PAUSED;
	sv_order_fold();
	sv_sharing_pause();
	class_hash = is_cut ? 0 : sv_order_state(false);
	if (sv_order_has_news() || (sv_sharing_has_news() && is_resumed))
		return SV_SEARCH_NEWS;
	if (sv_sharing_has_news()) {
		start_over();
		return SV_SEARCH_ON;
	}
	count();
	is_exhausted = !advance();
	if (is_cut || !(insert(&classes, class_hash) || is_every_new))
		return SV_SEARCH_ON;
	is_epilogue = true;
	sv_end_run(&reason);
	sv_drop_notes();
	return SV_SEARCH_NEW;
}

static uint64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

int sv_search_go(uint64_t executions, uint64_t milliseconds)
{
	enum sv_search_outcome outcome;
	uint64_t end = now_ms() + milliseconds;

	if (!sv_is_searching || is_broken || !sv_crash_arm())
		return SV_SEARCH_FAILED;
	if (has_to_learn)
		learn();
	has_to_learn = false;
	for (; executions && !is_exhausted; executions--) {
		outcome = execute();
		if (outcome != SV_SEARCH_ON)
			return outcome;
		if (now_ms() >= end)
			break;
	}
	return is_exhausted ? SV_SEARCH_OVER : SV_SEARCH_PAUSED;
}

static bool take_stack(const uint64_t *words, uint64_t n)
{
	for (uint64_t i = 0; i + 4 <= n;) {
		struct node what = { .points = words[i], .preemptions = (uint32_t)words[i + 1] };
		uint64_t count = words[i + 3];
		struct node *node;

		what.is_free = words[i + 1] >> 32;
		what.at = what.idle = (uint32_t)words[i + 2];
		i += 4;
		node = what.at < count && count <= n - i ? push_node(&what, (uint32_t)count) : NULL;
		if (!node)
			return false;
		while (count--)
			*(ids_of(node) + node->count - 1 - count) = (int32_t)words[i++];
	}
	return true;
}

const uint64_t *sv_search_stack(uint64_t *n_words)
{
	uint64_t *word;

	if (!sv_commit(&word_area, (node_count * 4 + id_count + 1) * sizeof(*word)))
		return NULL;
	word = (uint64_t *)word_area.start;
	for (uint64_t i = 0; i < node_count; i++) {
		const struct node *node = node_at(i);

		*word++ = node->points;
		*word++ = node->preemptions | (uint64_t)node->is_free << 32;
		*word++ = node->at;
		*word++ = node->count;
		for (uint32_t n = 0; n < node->count; n++)
			*word++ = (uint64_t)ids_of(node)[n];
	}
	*n_words = (uint64_t)(word - (uint64_t *)word_area.start);
	return (uint64_t *)word_area.start;
}

int sv_search_begin(int32_t preemption_bound, const uint64_t *stack, uint64_t n_words, int returns_every)
{
	bool has_memory = node_area.start ||
			  (sv_reserve(&node_area, 0, NODES_RESERVED) && sv_reserve(&id_area, 0, NODES_RESERVED) &&
			   sv_reserve(&word_area, 0, NODES_RESERVED));

	sv_search_end();
	if (has_memory)
		start_over();
	if (!has_memory || !sv_order_begin() || !sv_sharing_begin() || !take_stack(stack, n_words)) {
		sv_set_error("no memory for a search, or a stack that is none");
		return -1;
	}
	bound = preemption_bound;
	is_every_new = returns_every;
	is_resumed = n_words > 0;
	has_to_learn = bound < 0 && !is_resumed;
	is_broken = is_exhausted = false;
	sv_set_plan(NULL, 0, 0);
	sv_is_searching = sv_is_ordered = true;
	return 0;
}

void sv_search_end(void)
{
	sv_is_searching = sv_is_ordered = false;
}

void sv_search_know(const uint64_t *known, uint64_t n)
{
	clear(&classes);
	for (uint64_t i = 0; i < n; i++)
		make_room(&classes), insert(&classes, known[i]);
}

const uint64_t *sv_search_seen(uint64_t *n)
{
	uint64_t *word;

	if (!sv_commit(&word_area, (seen.count + 1) * sizeof(*word)))
		return NULL;
	word = (uint64_t *)word_area.start;
	for (size_t i = 0; i < seen.size; i++)
		if (seen.numbers[i])
			*word++ = seen.numbers[i];
	*n = seen.count;
	return (uint64_t *)word_area.start;
}

void sv_search_see(const uint64_t *states, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		make_room(&seen), insert(&seen, states[i]);
}

uint64_t sv_search_class(void)
{
	return class_hash;
}

int sv_search_reason(void)
{
	return reason;
}

void sv_search_counts(struct sv_search_counts *told)
{
	*told = counts;
	told->states = seen.count;
}
