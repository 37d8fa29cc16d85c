/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Code under test for the shim's own tests: each case uses one of the primitives as a kernel file does. Instrumented, with
 * the shim's headers, and no kernel file.
 */
#include "shim.h"

struct thing {
	unsigned long value;
	struct rcu_head rcu_head;
};

static DEFINE_SPINLOCK(spin);
static DEFINE_SPINLOCK(other_spin);
static DEFINE_MUTEX(mutex);
static int inside, outside_count;
static atomic_long_t total = ATOMIC_LONG_INIT(0);
static struct thing *published;
static struct kmem_cache *things;
static DEFINE_PER_CPU(unsigned long, per_cpu_count);
static struct work_struct works[3];
static unsigned long works_run[3];

/* What a critical section must never see: another task in its own. */
static void be_alone(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (READ_ONCE(inside))
			sv_warn("two are inside");
		WRITE_ONCE(inside, 1);
		outside_count++;
		WRITE_ONCE(inside, 0);
	}
}

static void in_no_lock(uint32_t n)
{
	be_alone(n);
}

static void in_spinlock(uint32_t n)
{
	spin_lock(&spin);
	be_alone(n);
	spin_unlock(&spin);
}

static void in_irq_spinlock(uint32_t n)
{
	unsigned long flags;

	spin_lock_irqsave(&spin, flags);
	be_alone(n);
	spin_unlock_irqrestore(&spin, flags);
}

static void in_mutex(uint32_t n)
{
	mutex_lock(&mutex);
	be_alone(n);
	mutex_unlock(&mutex);
}

static void in_guard(uint32_t n)
{
	guard(spinlock)(&spin);
	be_alone(n);
}

static void if_mutex_is_free(uint32_t n)
{
	if (!mutex_trylock(&mutex))
		return;
	be_alone(n);
	mutex_unlock(&mutex);
}

static void giving_way(uint32_t n)
{
	spin_lock(&spin);
	for (uint32_t i = 0; i < n; i++) {
		be_alone(1);
		cond_resched_lock(&spin);
	}
	spin_unlock(&spin);
}

static void one_then_other(uint32_t n)
{
	spin_lock(&spin);
	spin_lock(&other_spin);
	spin_unlock(&other_spin);
	spin_unlock(&spin);
}

static void other_then_one(uint32_t n)
{
	spin_lock(&other_spin);
	spin_lock(&spin);
	spin_unlock(&spin);
	spin_unlock(&other_spin);
}

static void sleep_in_spinlock(uint32_t n)
{
	spin_lock(&spin);
	mutex_lock(&mutex);
	mutex_unlock(&mutex);
	spin_unlock(&spin);
}

static void assert_lock(uint32_t n)
{
	lockdep_assert_held(&spin);
}

static void add(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		atomic_long_add(2, &total);
}

static void take_number(uint32_t n)
{
	long before = atomic_long_read(&total);

	while (!atomic_long_try_cmpxchg(&total, &before, before + 1))
		;
}

/* ---------------------------------------------------------------- RCU */

static void look(const struct thing *thing, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (thing->value != 7)
			sv_warn("a thing that is none");
}

static void read_thing(uint32_t n)
{
	rcu_read_lock();
	look(rcu_dereference(published), n);
	rcu_read_unlock();
}

static void read_thing_pinned(uint32_t n)
{
	preempt_disable();
	look(rcu_dereference(published), n);
	preempt_enable();
}

static void read_thing_carelessly(uint32_t n)
{
	look(rcu_dereference(published), n);
}

static struct thing *publish_new(void)
{
	struct thing *thing = kmalloc(sizeof(struct thing), GFP_KERNEL), *old = published;

	if (!thing)
		return NULL;
	thing->value = 7;
	rcu_assign_pointer(published, thing);
	return old;
}

static void replace_thing(uint32_t n)
{
	struct thing *old = publish_new();

	if (old)
		kfree_rcu(old, rcu_head);
}

static void free_thing(struct rcu_head *head)
{
	kfree(container_of(head, struct thing, rcu_head));
}

static void replace_thing_by_callback(uint32_t n)
{
	call_rcu(&publish_new()->rcu_head, free_thing);
}

static void replace_thing_and_wait(uint32_t n)
{
	struct thing *old = publish_new();

	synchronize_rcu();
	kfree(old);
}

/* ---------------------------------------------------------------- page table and TLBs, by page of the window */

static unsigned long address_of(uint32_t page)
{
	return VMALLOC_START + page * PAGE_SIZE;
}

static void map(uint32_t page)
{
	pte_t *pte = pte_alloc_kernel(NULL, address_of(page));

	if (!pte)
		return;
	if (!pte_none(*pte))
		return;
	set_pte_at(&init_mm, address_of(page), pte, mk_pte(alloc_page(GFP_KERNEL), PAGE_KERNEL));
}

static void unmap(uint32_t page)
{
	ptep_get_and_clear(&init_mm, address_of(page), pte_offset_kernel(NULL, address_of(page)));
}

static void touch(uint32_t page)
{
	sv_read_page(sv_config.window_start + page);
}

static void flush(uint32_t pages)
{
	flush_tlb_kernel_range(VMALLOC_START, address_of(pages));
}

static void cpu_leaves(uint32_t cpu)
{
	sv_cpu_down((int)cpu);
}

static void cpu_comes(uint32_t cpu)
{
	sv_cpu_up((int)cpu);
}

static void stay_pinned(uint32_t n)
{
	preempt_disable();
	for (uint32_t i = 0; i < n; i++)
		sv_point(0, 0, 0);
	preempt_enable();
}

/* ---------------------------------------------------------------- per-CPU data */

static void count_here(uint32_t n)
{
	preempt_disable();
	(*this_cpu_ptr(&per_cpu_count))++;
	preempt_enable();
}

static void count_here_preemptible(uint32_t n)
{
	(*this_cpu_ptr(&per_cpu_count))++;
}

static void count_on(uint32_t cpu)
{
	per_cpu(per_cpu_count, (int)cpu)++;
}

/* Not by a task: no access that the engine is to see. */
#define OUTSIDE __attribute__((no_sanitize("thread")))

static OUTSIDE unsigned long counted(void)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += *(unsigned long *)sv_per_cpu_copy(&per_cpu_count, cpu);
	return sum;
}

static void check_masks(uint32_t n)
{
	struct cpumask mask = CPU_MASK_NONE;
	unsigned int cpu, seen = 0;

	__cpumask_set_cpu(200, &mask);
	__cpumask_set_cpu(3, &mask);
	for_each_cpu(cpu, &mask)
		seen += cpu;
	if (seen != 203 || cpumask_weight(&mask) != 2 || cpumask_first(&mask) != 3)
		sv_warn("a mask that is walked wrongly");
	if (num_possible_cpus() != n || num_online_cpus() != n)
		sv_warn("CPUs are counted wrongly");
}

/* ---------------------------------------------------------------- works */

static void count_run(struct work_struct *work)
{
	works_run[work - works]++;
}

static void wait_for_next(struct work_struct *work)
{
	count_run(work);
	flush_work(work + 1);
	if (!works_run[work - works + 1])
		sv_warn("a work was waited for that did not run");
}

static void queue(uint32_t n)
{
	schedule_work(&works[n]);
}

static void queue_on_cpu(uint32_t cpu)
{
	schedule_work_on((int)cpu, &works[2]);
}

static void wait_for_work(uint32_t n)
{
	if (flush_work(&works[n]) && !READ_ONCE(works_run[n]))
		sv_warn("a work was waited for that did not run");
}

/* ---------------------------------------------------------------- memory */

static void construct(void *object)
{
	((struct thing *)object)->value = 7;
}

static void allocate_constructed(uint32_t n)
{
	struct thing *thing = kmem_cache_alloc(things, GFP_KERNEL);

	if (thing && thing->value != 7)
		sv_warn("a constructor did not run");
	if (thing)
		kmem_cache_free(things, thing);
}

static void allocate(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		kfree(kmalloc(sizeof(struct thing), GFP_KERNEL));
}

static void allocate_atomic(uint32_t n)
{
	kfree(kmalloc(sizeof(struct thing), GFP_ATOMIC));
}

static void free_page_twice(uint32_t n)
{
	struct page *page = alloc_page(GFP_KERNEL);

	__free_page(page);
	__free_page(page);
}

bool __list_add_valid(struct list_head *new, struct list_head *prev, struct list_head *next);

static void add_to_broken_list(uint32_t n)
{
	static struct list_head head, node, lost;

	head.next = head.prev = &head;
	if (n)
		head.prev = &lost;
	__list_add_valid(&node, &head, head.next);
}

static void number_tricks(uint32_t n)
{
	static const unsigned long constant[roundup_pow_of_two(5)];
	DECLARE_BITMAP(bits, 130);

	bitmap_zero(bits, 130);
	bitmap_set(bits, 60, 9);
	bitmap_clear(bits, 64, 2);
	if (ARRAY_SIZE(constant) != 8 || get_order(PAGE_SIZE) != 0 || get_order(PAGE_SIZE + 1) != 1 || fls(5) != 3)
		sv_warn("wrong with numbers");
	if (bitmap_weight(bits, 130) != 7 || find_first_bit(bits, 130) != 60 || find_next_zero_bit(bits, 130, 60) != 64)
		sv_warn("wrong with bitmaps");
}

#define CASES(X)                                                                                                     \
	X(in_no_lock) X(in_spinlock) X(in_irq_spinlock) X(in_mutex) X(in_guard) X(if_mutex_is_free) X(giving_way)    \
	X(one_then_other) X(other_then_one) X(sleep_in_spinlock) X(assert_lock) X(add) X(take_number) X(read_thing)  \
	X(read_thing_pinned) X(read_thing_carelessly) X(replace_thing) X(replace_thing_by_callback)                  \
	X(replace_thing_and_wait) X(map) X(unmap) X(touch) X(flush) X(cpu_leaves) X(cpu_comes) X(stay_pinned)        \
	X(count_here) X(count_here_preemptible) X(count_on) X(check_masks) X(queue) X(queue_on_cpu)                  \
	X(wait_for_work) X(allocate_constructed) X(allocate) X(allocate_atomic) X(free_page_twice)                   \
	X(add_to_broken_list) X(number_tricks)

#define NAME(name) #name,
#define BODY(name) name,
SV_EXPORT const char *const case_names[] = { CASES(NAME) NULL };
static void (*const cases[])(uint32_t n) = { CASES(BODY) };

OUTSIDE bool sv_perform(const struct sv_op *op)
{
	cases[op->kind](op->pages);
	return true;
}

void sv_clean_up(void *unused)
{
}

/* With five CPUs only every second one is possible. */
void sv_shim_boot(void)
{
	sv_config.window_start = 0x100000;
	sv_config.window_end = sv_config.window_start + 64;
	for (int cpu = 1; sv_nr_cpu_ids == 5 && cpu < 5; cpu += 2)
		sv_cpu_possible[cpu] = sv_cpu_online[cpu] = 0;
	sv_machine_boot();
	things = kmem_cache_create("thing", sizeof(struct thing), 0, 0, construct);
	publish_new();
	INIT_WORK(&works[0], wait_for_next);
	INIT_WORK(&works[1], count_run);
	INIT_WORK(&works[2], count_run);
	sv_machine_keep_boot();
}

void sv_shim_reset(void)
{
	sv_machine_reset();
}

/* What only a tree's vmalloc can say. */
void sv_area_freed(const void *area)
{
}

const char *sv_type_by_size(size_t size)
{
	return NULL;
}

int sv_vmap_node_of(const struct work_struct *work)
{
	return -1;
}

/* For the tests: numbers of the run's end. */
SV_EXPORT uint64_t state(uint32_t n);
OUTSIDE uint64_t state(uint32_t n)
{
	uint64_t values[] = { (uint64_t)total.counter, (uint64_t)outside_count, counted(), works_run[0], works_run[1],
			      works_run[2], sv_is_rcu_idle() };

	return values[n];
}
