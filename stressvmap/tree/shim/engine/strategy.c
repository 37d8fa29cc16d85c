// SPDX-License-Identifier: GPL-2.0-only
/*
 * The strategies that need nothing but numbers drawn (sched/ has each, with its source), carried out where decisions
 * are due: to ask Python at a decision takes a hundred times as long as to make it. Parameters and the seed of each
 * execution are Python's. The schedules are not those that Python's decide() makes of the same seed, for the numbers are
 * splitmix64's; they are a function of (strategy, seed, program) alone all the same.
 */
#include <string.h>

#include "internal.h"

#define PLACES_MAX 1024 /* at least SWITCHES_MAX and DEPTH_MAX */
#define HIGHEST (UINT64_C(1) << 63) /* initial priorities are above this, in any order */
#define CHANGED (UINT64_C(1) << 62) /* those after a change point below this, each below the last one's */
#define SPUN (UINT64_C(1) << 61)    /* and those of spinners below this */

static struct sv_strategy strategy;
static uint64_t seed, state;
static bool is_set, is_begun;

static uint64_t places[PLACES_MAX]; /* points of the run, ascending */
static uint32_t n_places, passed;
static uint64_t priorities[SV_TASKS + 1]; /* by a task's stack; 0: not drawn yet */
static struct sv_task *running;		  /* PCT: without a break since `since` */
static uint64_t since, spinners;
static struct { int kind; uint32_t field; uint64_t object; } executed; /* POS: what the last answer let happen */
static uint32_t turn;
static uint32_t string_synchronize, string_callback;

/* ---------------------------------------------------------------- numbers */

static uint32_t draw_below(uint32_t n)
{
	return (uint32_t)((sv_mix(&state) >> 32) * n >> 32);
}

/* Different points of 1..length, as many as there are up to strategy.count: Floyd's algorithm (CACM 30(9), 1987). */
static void spread_places(void)
{
	uint32_t length = (uint32_t)strategy.length;

	n_places = strategy.count < length ? strategy.count : length;
	for (uint32_t have = 0; have < n_places; have++) {
		uint32_t last = length - n_places + have + 1, place = 1 + draw_below(last), at = have;

		for (uint32_t n = 0; n < have; n++)
			if (places[n] == place)
				place = last;
		while (at && places[at - 1] > place)
			at--;
		memmove(places + at + 1, places + at, (have - at) * sizeof(places[0]));
		places[at] = place;
	}
}

static void begin(void)
{
	is_begun = true;
	state = seed;
	n_places = passed = 0;
	if (strategy.kind == SV_BY_SWITCHES || strategy.kind == SV_BY_PRIORITIES)
		spread_places();
	if (strategy.kind == SV_BY_PRIORITIES || strategy.kind == SV_BY_OPERATIONS)
		memset(priorities, 0, sizeof(priorities));
	running = NULL;
	since = spinners = 0;
	executed.kind = 0;
	turn = strategy.count;
	if (strategy.kind == SV_BY_TURNS && !turn)
		turn = 1 + draw_below((uint32_t)strategy.length);
}

/* Points until the next place, at most `most`. */
static uint64_t until_place(uint64_t most)
{
	if (passed < n_places && places[passed] - sv_points < most)
		most = places[passed] - sv_points;
	return most ? most : 1;
}

/* ---------------------------------------------------------------- random, sticky, switch-points */

/* Any enabled task; where the grant of `task` is used up and others can run, one of these. */
static struct sv_task *another(const struct sv_task *task, int why, uint32_t rank)
{
	uint32_t count = (uint32_t)sv_enabled_count, at;

	if (!strategy.prefers_others || why != SV_WHY_COUNT_OVER || !task || !task->is_enabled || count == 1)
		return sv_enabled[(uint64_t)rank * count >> 32];
	at = (uint32_t)((uint64_t)rank * (count - 1) >> 32);
	return sv_enabled[at] == task ? sv_enabled[count - 1] : sv_enabled[at];
}

static struct sv_task *by_walk(const struct sv_task *task, int why, uint64_t *points)
{
	uint64_t number = sv_mix(&state);

	*points = strategy.lengths[(number & UINT32_MAX) * strategy.n_lengths >> 32];
	return another(task, why, (uint32_t)(number >> 32));
}

static struct sv_task *by_switches(const struct sv_task *task, int why, uint64_t *points)
{
	while (passed < n_places && places[passed] <= sv_points)
		passed++;
	*points = until_place(strategy.longest);
	return another(task, why, (uint32_t)(sv_mix(&state) >> 32));
}

/* ---------------------------------------------------------------- pct */

static uint64_t priority_of(const struct sv_task *task)
{
	uint64_t *priority = priorities + task->number;

	if (!*priority)
		*priority = HIGHEST | sv_mix(&state);
	return *priority;
}

static struct sv_task *of_highest_priority(void)
{
	struct sv_task *best = sv_enabled[0];

	for (int32_t n = 1; n < sv_enabled_count; n++)
		if (priority_of(sv_enabled[n]) > priority_of(best))
			best = sv_enabled[n];
	return best;
}

static struct sv_task *by_priorities(struct sv_task *task, uint64_t *points)
{
	struct sv_task *chosen;

	for (; task && passed < n_places && places[passed] <= sv_points; passed++)
		priorities[task->number] = CHANGED - passed;
	if (task && task == running && sv_enabled_count > 1 && sv_points - since >= strategy.longest) {
		priorities[task->number] = SPUN - spinners++;
		running = NULL;
	}
	chosen = of_highest_priority();
	if (chosen != running) {
		running = chosen;
		since = sv_points;
	}
	*points = since + strategy.longest > sv_points ? until_place(since + strategy.longest - sv_points) : 1;
	return chosen;
}

/* ---------------------------------------------------------------- pos */

enum { READS = 1, RCU = 2, FLUSH = 4, WORK = 8, TREE = 16 };

/* sched/dependence.py's sets of kinds. */
static unsigned int class_of(int kind)
{
	switch (kind) {
	case SV_READ: case SV_READ_ONCE: case SV_XA_LOAD: case SV_TLB_READ:
		return READS;
	case SV_TREE_FIND:
		return READS | TREE;
	case SV_TREE_INSERT: case SV_TREE_ERASE:
		return TREE;
	case SV_RCU_READ_LOCK: case SV_RCU_READ_UNLOCK: case SV_KFREE_RCU:
		return RCU;
	case SV_IPI_SEND: case SV_TLB_INVALIDATE:
		return FLUSH;
	case SV_WORK_QUEUE: case SV_WORK_BEGIN: case SV_WORK_FLUSHED:
		return WORK;
	default:
		return 0;
	}
}

/* Whether what is pending can depend on an RCU operation, or the other way round. */
static bool depends_on_rcu(int kind, uint32_t field, uint64_t object, int other_kind, uint64_t other_object)
{
	if (kind != SV_KFREE_RCU && field != string_synchronize)
		return false;
	if (class_of(other_kind) & RCU)
		return true;
	return field == string_callback ? other_object : object && object == other_object;
}

static bool is_access(int kind)
{
	return kind >= SV_READ && kind <= SV_ATOMIC;
}

/* sched/dependence.py, are_dependent: of what was executed and what `task` has pending. Accesses meet in one word. */
static bool is_dependent(const struct sv_task *task)
{
	int kind = executed.kind, other = task->pending_kind;
	unsigned int class = class_of(kind), its = class_of(other);

	if (!kind || !other)
		return false;
	if (is_access(kind) && is_access(other))
		return executed.object >> 3 == task->pending_object >> 3 && !(class & its & READS);
	if ((class | its) & RCU)
		return depends_on_rcu(kind, executed.field, executed.object, other, task->pending_object) ||
		       depends_on_rcu(other, task->pending_field, task->pending_object, kind, executed.object);
	if (class & its & FLUSH)
		return kind == SV_IPI_SEND || other == SV_IPI_SEND;
	if ((class | its) & FLUSH)
		return (kind == SV_TLB_READ && other == SV_TLB_INVALIDATE) ||
		       (other == SV_TLB_READ && kind == SV_TLB_INVALIDATE);
	if (class & its & WORK)
		return true;
	if (class & its & TREE)
		return executed.field == task->pending_field && !(class & its & READS);
	if (executed.object != task->pending_object || !executed.object)
		return false;
	return (class | its) & TREE || (executed.field == task->pending_field && !(class & its & READS));
}

static struct sv_task *by_operations(uint64_t *points)
{
	struct sv_task *best = NULL;

	for (int32_t n = 0; n < sv_enabled_count; n++) {
		struct sv_task *task = sv_enabled[n];

		if (!priorities[task->number] || is_dependent(task))
			priorities[task->number] = sv_mix(&state) | 1;
		if (!best || priorities[task->number] > priorities[best->number])
			best = task;
	}
	priorities[best->number] = 0;
	executed.kind = best->pending_kind;
	executed.field = best->pending_field;
	executed.object = best->pending_object;
	*points = 1;
	return best;
}

/* ---------------------------------------------------------------- round-robin */

static struct sv_task *by_turns(const struct sv_task *task, uint64_t *points)
{
	*points = turn;
	if (!task)
		return sv_enabled[draw_below((uint32_t)sv_enabled_count)];
	for (int32_t n = 0; n < sv_enabled_count; n++)
		if (sv_enabled[n]->id > task->id)
			return sv_enabled[n];
	return sv_enabled[0];
}

/* ---------------------------------------------------------------- whichever */

struct sv_task *sv_strategy_choose(struct sv_task *task, int why, uint64_t *points)
{
	if (!is_begun)
		begin();
	switch (strategy.kind) {
	case SV_BY_SWITCHES:
		return by_switches(task, why, points);
	case SV_BY_PRIORITIES:
		return by_priorities(task, points);
	case SV_BY_OPERATIONS:
		return by_operations(points);
	case SV_BY_TURNS:
		return by_turns(task, points);
	default:
		return by_walk(task, why, points);
	}
}

bool sv_strategy_is_set(void)
{
	return is_set;
}

void sv_strategy_unset(void)
{
	is_set = false;
}

void sv_strategy_reset(void)
{
	is_begun = false;
}

void sv_set_strategy(const struct sv_strategy *new, uint64_t new_seed)
{
	sv_set_decide(NULL, NULL, new->kind == SV_BY_PRIORITIES);
	strategy = *new;
	if (strategy.count > PLACES_MAX)
		strategy.count = PLACES_MAX;
	seed = new_seed;
	is_set = true;
	is_begun = false;
	string_synchronize = sv_string("synchronize_rcu");
	string_callback = sv_string("callback");
	sv_seed_draws(~new_seed);
}
