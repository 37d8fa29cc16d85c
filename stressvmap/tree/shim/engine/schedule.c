// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who runs next: sched/controlled.py in C. What is decided is recorded as ControlledRuntime._record does it,
 * so that ReplayStrategy repeats it.
 *
 * The hub is the stack of whoever called sv_run. Decisions by a plan are made where they are due, on the
 * stack of the task that stops; those by a callback in the hub, for Python is to be entered only on a stack
 * that it knows.
 */
#include <setjmp.h>
#include <string.h>

#include "internal.h"

#define CHOICES_RESERVED ((size_t)1 << 28)
#define CHOICES_KEPT ((size_t)1 << 20)

uint64_t sv_points, sv_switches, sv_attend_at = UINT64_MAX;
volatile int sv_stop_requested;

struct sv_task *sv_enabled[SV_TASKS];
int32_t sv_enabled_count;
static int32_t enabled_ids[SV_TASKS];

static uint64_t ask_at;	 /* sv_points when the grant is used up; sv_attend_at is never above it */
static uint64_t counted; /* sv_points when the running task's own points were last brought up to date */
static uint64_t since;	 /* sv_points when the current task became that: what it ran since is one choice */
static int why_next;	 /* what the strategy will be told when the grant is used up */
static bool is_special;	 /* the current task has migrations planned: a point may be attended to for these */
static int reason;

static sv_decide_fn decide;
static sv_draw_fn draw;
static bool wants_wakeups;
static struct sv_area plan, choices, draws;
static uint32_t plan_steps, plan_next;
static uint64_t choice_count, draw_count, draw_seed, draw_state;

/* What a task asks of the hub when it switches to it. */
enum request { REQUEST_NEXT, REQUEST_DRAW, REQUEST_OVER };
static enum request request;
static struct sv_task *asker;
static int asked_why;
static uint32_t asked_n;
static int64_t drawn;
static sigjmp_buf landing;

bool sv_schedule_init(void)
{
	return sv_reserve(&plan, 0, CHOICES_RESERVED) && sv_reserve(&choices, 0, CHOICES_RESERVED) &&
	       sv_reserve(&draws, 0, CHOICES_RESERVED) && sv_commit(&choices, 1) && sv_commit(&draws, 1);
}

void sv_schedule_reset(void)
{
	if (choice_count * sizeof(struct sv_choice) > CHOICES_KEPT)
		sv_trim(&choices, CHOICES_KEPT);
	sv_enabled_count = 0;
	sv_points = counted = since = 0;
	sv_attend_at = UINT64_MAX;
	choice_count = draw_count = 0;
	is_special = false;
	plan_next = 0;
	draw_state = draw_seed;
	sv_strategy_reset();
}

/* ---------------------------------------------------------------- the enabled tasks, ascending by id */

static int32_t enabled_place(int32_t id)
{
	int32_t at = sv_enabled_count;

	while (at && enabled_ids[at - 1] >= id)
		at--;
	return at;
}

void sv_enabled_insert(struct sv_task *task)
{
	int32_t at = enabled_place(task->id);
	size_t after = (size_t)(sv_enabled_count++ - at);

	memmove(&sv_enabled[at + 1], &sv_enabled[at], after * sizeof(sv_enabled[0]));
	memmove(&enabled_ids[at + 1], &enabled_ids[at], after * sizeof(enabled_ids[0]));
	sv_enabled[at] = task;
	enabled_ids[at] = task->id;
	task->is_enabled = 1;
}

void sv_enabled_remove(struct sv_task *task)
{
	int32_t at = enabled_place(task->id);
	size_t after = (size_t)(--sv_enabled_count - at);

	memmove(&sv_enabled[at], &sv_enabled[at + 1], after * sizeof(sv_enabled[0]));
	memmove(&enabled_ids[at], &enabled_ids[at + 1], after * sizeof(enabled_ids[0]));
	task->is_enabled = 0;
}

uint32_t sv_enabled_ids(const int32_t **ids)
{
	*ids = enabled_ids;
	return (uint32_t)sv_enabled_count;
}

/* ---------------------------------------------------------------- decisions */

/* Append what the decisions for `task` came to: a grant of so many points to it repeats them exactly. */
static void record_choice(const struct sv_task *task, int why)
{
	/* It has begun what follows its last point. */
	bool is_midway = why != SV_WHY_COUNT_OVER && why != SV_WHY_WOKEN;
	struct sv_choice *choice;

	if (!task || !sv_commit(&choices, (choice_count + 1) * sizeof(*choice)))
		return;
	choice = (struct sv_choice *)choices.start + choice_count++;
	choice->task = (uint32_t)task->id;
	choice->points = (uint32_t)(sv_points - since + is_midway);
}

/* `chosen` is the current task from here on; what `task` has run is a choice of the schedule. */
static void hand_over(const struct sv_task *task, struct sv_task *chosen, int why)
{
	record_choice(task, why);
	since = sv_points;
	sv_current = chosen;
	is_special = chosen->migrate_at != SV_NEVER;
}

static void attend_at(uint64_t points)
{
	sv_attend_at = points;
	if (sv_stop_requested)
		sv_attend_at = 0;
}

/* Attend to `task` when its grant is used up, or before that when it is due to migrate. */
static void arm(const struct sv_task *task)
{
	uint64_t left = task->migrate_at > task->points ? task->migrate_at - task->points : 0;

	attend_at(ask_at < counted + left ? ask_at : counted + left);
}

static struct sv_task *decide_by_plan(struct sv_task *task, uint64_t *points)
{
	const struct sv_step *step;

	if (plan_next < plan_steps) {
		step = (const struct sv_step *)plan.start + plan_next++;
		*points = step->points ? step->points : 1;
		return sv_enabled[(uint64_t)step->rank * (uint32_t)sv_enabled_count >> 32];
	}
	*points = SV_NEVER;
	return task && task->is_enabled ? task : sv_enabled[0];
}

static struct sv_task *decide_by_callback(int why, uint64_t *points)
{
	int64_t answer = decide(why);
	int32_t id = (int32_t)(answer >> 40), at;

	if (answer < 0)
		return NULL;
	*points = (uint64_t)answer & ((UINT64_C(1) << 40) - 1);
	at = enabled_place(id);
	if (at < sv_enabled_count && enabled_ids[at] == id && *points)
		return sv_enabled[at];
	sv_set_error("decide: task %d for %llu points, where it is not enabled or the points are none", id,
		     (unsigned long long)*points);
	return NULL;
}

static struct sv_task *decide_now(struct sv_task *task, int why, uint64_t *points)
{
	if (sv_is_searching)
		return sv_search_choose(task, points);
	if (decide)
		return decide_by_callback(why, points);
	return sv_strategy_is_set() ? sv_strategy_choose(task, why, points) : decide_by_plan(task, points);
}

static int why_over(void)
{
	if (sv_points >= sv_config.steps_max)
		return SV_STEPS_MAX;
	if (sv_enabled_count)
		return SV_INTERRUPTED;
	for (int32_t i = 0; i < sv_task_count; i++)
		if (!sv_is_finished(sv_tasks[i]))
			return SV_DEADLOCK;
	return SV_DONE;
}

/* The task to run next, or NULL with `reason` set. */
static struct sv_task *next(struct sv_task *task, int why)
{
	uint64_t points = 0, most = sv_config.steps_max - sv_points;
	struct sv_task *chosen = NULL;

	if (task)
		task->points += sv_points - counted;
	counted = sv_points;
	if (sv_enabled_count && sv_points < sv_config.steps_max && !sv_stop_requested)
		chosen = decide_now(task, why, &points);
	if (!chosen) {
		reason = why_over();
		record_choice(task, why);
		return NULL;
	}
	if (chosen != task || why == SV_WHY_ENDED) /* else it goes on, and so does its choice */
		hand_over(task, chosen, why);
	why_next = SV_WHY_COUNT_OVER;
	ask_at = sv_points + (points < most ? points : most);
	attend_at(ask_at);
	if (is_special)
		arm(chosen);
	return chosen;
}

/* ---------------------------------------------------------------- from stack to stack */

/* Leave the stack of `from` for that of `to`; NULL is the hub. Returns when somebody comes back. */
static void go(struct sv_task *from, struct sv_task *to)
{
	if (to) {
		if (!to->is_started)
			sv_prepare_stack(to);
		sv_load_stack_bounds(to);
	}
	sv_in_task = to != NULL;
	sv_switches++;
	sv_switch_stacks(from, to);
}

static void ask_hub(struct sv_task *task, enum request what)
{
	request = what;
	asker = task;
	go(task, NULL);
}

void sv_reschedule(struct sv_task *task, int why)
{
	struct sv_task *chosen;

	if (task == &sv_boot_task)
		return;
	asked_why = why;
	if (decide) {
		ask_hub(task, REQUEST_NEXT);
		return;
	}
	chosen = next(task, why);
	if (!chosen)
		ask_hub(task, REQUEST_OVER);
	else if (chosen != task)
		go(task, chosen);
}

/* The run ends where `task` is between two points. */
static void end_midway(struct sv_task *task, int why)
{
	task->points += sv_points - counted;
	counted = sv_points;
	record_choice(task, SV_WHY_BLOCKED);
	reason = why;
}

_Noreturn void sv_give_up(int why)
{
	if (sv_current == &sv_boot_task)
		sv_bug("the journal is full");
	end_midway(sv_current, why);
	ask_hub(sv_current, REQUEST_OVER);
	__builtin_unreachable();
}

/* The task's body is over: it needs its stack no more. */
static void finish(struct sv_task *task)
{
	task->is_started = 0;
	if (!task->is_parked)
		sv_retire(task);
	if (task->is_daemon && !task->is_dead)
		task->is_parked = 1;
	else
		task->is_done = 1;
}

_Noreturn void sv_leave_for_good(struct sv_task *task)
{
	struct sv_task *chosen;

	asked_why = SV_WHY_ENDED;
	if (task == &sv_boot_task)
		ask_hub(task, REQUEST_OVER);
	finish(task);
	if (decide)
		ask_hub(task, REQUEST_NEXT);
	chosen = next(task, SV_WHY_ENDED);
	if (!chosen)
		ask_hub(task, REQUEST_OVER);
	go(task, chosen);
	__builtin_unreachable();
}

/* ---------------------------------------------------------------- points */

void sv_point(int kind, uint64_t object, uint32_t field)
{
	sv_fill();
	sv_announce(sv_current, kind, object, field);
}

void sv_point_plain(int kind, uint64_t object, uint32_t field)
{
	sv_fill();
	if (sv_config.points_all)
		sv_announce(sv_current, kind, object, field);
}

/* A point has more to do than count: the grant is used up, or a migration is due, or the run is to stop. */
void sv_attend(void)
{
	struct sv_task *task = sv_current;

	task->pending_pc = task->pc;
	if (is_special) {
		task->points += sv_points - counted;
		counted = sv_points;
		if (task->points >= task->migrate_at) {
			int cpu = task->cpu;

			sv_migrate(task);
			if (task->cpu != cpu && !sv_can_run(task)) {
				sv_reschedule(task, SV_WHY_BLOCKED);
				return;
			}
		}
		arm(task);
		if (sv_points < ask_at && !sv_stop_requested)
			return;
	}
	sv_reschedule(task, why_next);
}

/* If the strategy wants that, ask it at the current task's next point, for a task that became enabled. */
void sv_ask_soon(void)
{
	if (wants_wakeups && ask_at > sv_points + 1) {
		why_next = SV_WHY_WOKEN;
		ask_at = sv_points + 1;
		attend_at(ask_at);
	}
}

uint64_t sv_own_points(void)
{
	return sv_current->points + sv_points - counted;
}

uint32_t sv_draw(uint32_t n)
{
	uint32_t value;

	sv_fill();
	if (draw && sv_current != &sv_boot_task) {
		asked_n = n;
		ask_hub(sv_current, REQUEST_DRAW);
		value = (uint32_t)drawn;
	} else {
		value = (uint32_t)((sv_mix(&draw_state) >> 32) * n >> 32);
	}
	if (sv_commit(&draws, (draw_count + 1) * sizeof(value)))
		((uint32_t *)draws.start)[draw_count++] = value;
	return value;
}

/* ---------------------------------------------------------------- the hub */

_Noreturn void sv_land(enum sv_landing how)
{
	sv_in_task = 0;
	siglongjmp(landing, how);
}

/* A signal took the current task off its stack. */
static void take_landed(enum sv_landing how)
{
	struct sv_task *task = sv_current;

	asker = task;
	asked_why = SV_WHY_ENDED;
	if (how == SV_LANDED_CRASH && task != &sv_boot_task) {
		sv_die(task, sv_crash_text);
		finish(task);
		request = REQUEST_NEXT;
		return;
	}
	end_midway(task, SV_STEPS_MAX);
	request = REQUEST_OVER;
}

int sv_run_tasks(void)
{
	struct sv_task *chosen;
	int landed;

	request = REQUEST_NEXT;
	asker = NULL;
	asked_why = SV_WHY_START;
	landed = sigsetjmp(landing, 0);
	if (landed)
		take_landed(landed);
	while (request != REQUEST_OVER) {
		if (request == REQUEST_DRAW) {
			drawn = draw(asked_n);
			chosen = asker;
			if (drawn < 0) {
				end_midway(asker, SV_INTERRUPTED);
				break;
			}
		} else {
			chosen = next(asker, asked_why);
			if (!chosen)
				break;
		}
		go(NULL, chosen);
	}
	return reason;
}

bool sv_run_boot(void (*body)(void *))
{
	int landed = sigsetjmp(landing, 0);

	if (landed)
		return false;
	sv_boot_task.body = body;
	go(NULL, &sv_boot_task);
	return true;
}

/* ---------------------------------------------------------------- what Python sets and reads */

void sv_set_decide(sv_decide_fn decide_fn, sv_draw_fn draw_fn, int wants)
{
	decide = decide_fn;
	draw = draw_fn;
	wants_wakeups = wants;
	sv_strategy_unset();
}

void sv_seed_draws(uint64_t seed)
{
	draw_seed = draw_state = seed;
}

static bool keep_plan(const struct sv_step *steps, uint32_t n_steps)
{
	plan_steps = plan_next = 0;
	if (!sv_commit(&plan, n_steps * sizeof(*steps) + 1))
		return false;
	memcpy(plan.start, steps, n_steps * sizeof(*steps));
	plan_steps = n_steps;
	return true;
}

void sv_set_plan(const struct sv_step *steps, uint32_t n_steps, uint64_t seed)
{
	sv_set_decide(NULL, NULL, 0);
	draw_seed = draw_state = seed;
	if (!keep_plan(n_steps ? steps : (const struct sv_step *)"", n_steps))
		sv_set_error("a plan of %u steps is too long", n_steps);
}

void sv_plan_random(uint64_t *seed, uint64_t length, uint32_t switches)
{
	uint64_t share = length / (switches + 1) + 1; /* a grant is drawn up to twice its mean */
	struct sv_step *steps = (struct sv_step *)plan.start;

	sv_set_decide(NULL, NULL, 0);
	plan_steps = plan_next = 0;
	if (!sv_commit(&plan, (switches + 1) * sizeof(*steps)))
		return;
	for (uint32_t i = 0; i <= switches; i++) {
		uint64_t number = sv_mix(seed);

		steps[i].rank = (uint32_t)(number >> 32);
		steps[i].points = (uint32_t)((number & UINT32_MAX) * 2 * share >> 32) + 1;
	}
	plan_steps = switches + 1;
}

const struct sv_choice *sv_choices(uint64_t *n)
{
	*n = choice_count;
	return (const struct sv_choice *)choices.start;
}

const uint32_t *sv_draws(uint64_t *n)
{
	*n = draw_count;
	return (const uint32_t *)draws.start;
}

uint64_t sv_point_count(void)
{
	return sv_points;
}

void sv_request_stop(void)
{
	sv_stop_requested = 1;
	/*
	 * The engine may be about to write this, and then sees the request; if it does not, the next tick
	 * tells it.
	 */
	__atomic_store_n(&sv_attend_at, 0, __ATOMIC_SEQ_CST);
}
