/* SPDX-License-Identifier: GPL-2.0-only */
/* <linux/compiler.h>, <linux/export.h>, <linux/init.h>, <asm/barrier.h>. */
#ifndef SV_COMPILER_H
#define SV_COMPILER_H

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define barrier() __asm__ __volatile__("" ::: "memory")
#define __always_inline inline __attribute__((__always_inline__))
#define noinline __attribute__((__noinline__))
#define noinline_for_stack noinline
#define __must_check __attribute__((__warn_unused_result__))
#define __maybe_unused __attribute__((__unused__))
#define __always_unused __attribute__((__unused__))
#define __used __attribute__((__used__))
#define __weak __attribute__((__weak__))
#define __packed __attribute__((__packed__))
#define __aligned(n) __attribute__((__aligned__(n)))
#define __printf(a, b)
#define __malloc
#define __alloc_size(...)
#define __realloc_size(...)
#define __counted_by(member)
#define __no_kasan_or_inline inline
#define __no_sanitize_address
#define __init
#define __exit
#define __meminit
#define __initdata
#define __ref
#define __read_mostly
#define __ro_after_init
#define __cacheline_aligned
#define __cacheline_aligned_in_smp
#define ____cacheline_aligned
#define ____cacheline_aligned_in_smp
#define asmlinkage
#define fallthrough __attribute__((__fallthrough__))
#define __same_type(a, b) __builtin_types_compatible_p(__typeof__(a), __typeof__(b))
#define __cold __attribute__((__cold__))
#define __preserve_most
#define __attribute_const__ __attribute__((__const__))
#define __pure __attribute__((__pure__))
#define __diag_push()
#define __diag_pop()
#define __diag_ignore_all(option, comment)
#define typeof __typeof__
#define typeof_member(type, member) __typeof__(((type *)0)->member)
#define __stringify_1(x...) #x
#define __stringify(x...) __stringify_1(x)
#define __UNIQUE_ID(prefix) SV_JOIN(sv_unique_##prefix, __COUNTER__)
#define SV_JOIN_1(a, b) a##b
#define SV_JOIN(a, b) SV_JOIN_1(a, b)
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define sizeof_field(type, member) sizeof(((type *)0)->member)
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define container_of_const container_of

#define EXPORT_SYMBOL(name)
#define EXPORT_SYMBOL_GPL(name)
#define EXPORT_PER_CPU_SYMBOL(name)
#define MODULE_LICENSE(text)
/* Called by the boot, in the order of the file. */
typedef int (*sv_initcall)(void);
#define SV_INITCALL(function) \
	static sv_initcall sv_initcall_##function __attribute__((section("sv_initcalls"), used)) = function
#define module_init(function) SV_INITCALL(function)
#define arch_initcall(function) SV_INITCALL(function)
#define core_initcall(function) SV_INITCALL(function)
#define late_initcall(function) SV_INITCALL(function)
#define early_param(name, function) static __used int (*sv_parameter_##function)(char *) = function
#define __setup(name, function) static __used int (*sv_parameter_##function)(char *) = function

/* A volatile access is a marked one to the compiler's callbacks (tsan-distinguish-volatile). */
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value) do { *(volatile __typeof__(x) *)&(x) = (value); } while (0)

/* Runs are sequentially consistent: what orders memory orders nothing more. */
#define smp_mb() barrier()
#define smp_rmb() barrier()
#define smp_wmb() barrier()
#define smp_mb__before_atomic() barrier()
#define smp_mb__after_atomic() barrier()
#define smp_load_acquire(pointer) READ_ONCE(*(pointer))
/* What it publishes is what was done before: told just before the store. */
void sv_release(const volatile void *place);
#define smp_store_release(pointer, value) \
	do { \
		__typeof__(pointer) sv_place = (pointer); \
		sv_release(sv_place); \
		WRITE_ONCE(*sv_place, value); \
	} while (0)
#define smp_store_mb(variable, value) WRITE_ONCE(variable, value)
#define cpu_relax() do { } while (0)

/* An access that is a race on purpose: told as a marked one. */
#define data_race(expression) \
	({ \
		sv_data_race_begin(); \
		__auto_type sv_value = (expression); \
		sv_data_race_end(); \
		sv_value; \
	})
#define ASSERT_EXCLUSIVE_WRITER(variable) do { } while (0)
#define ASSERT_EXCLUSIVE_ACCESS(variable) do { } while (0)

#define BUILD_BUG_ON(condition) _Static_assert(!(condition), #condition)
#define BUILD_BUG_ON_MSG(condition, text) _Static_assert(!(condition), text)
#define BUILD_BUG_ON_ZERO(condition) ((int)sizeof(struct { int : (-!!(condition)); }))
#define BUILD_BUG() do { } while (0)
#define static_assert(condition, ...) _Static_assert(condition, #condition)
#define compiletime_assert(condition, text) do { } while (0)

/* `unsigned long` whatever the file says BITS_PER_LONG is. */
#define SV_LONG_BITS 64

/*
 * A name in a macro's argument, and its number once it was asked for. It outlives a run, for a string keeps its number.
 */
struct sv_name {
	const char *text;
	uint32_t number;
};
#define SV_NAME(words) \
	({ \
		static struct sv_name sv_the_name __attribute__((section("sv_names"))) = { words, 0 }; \
		&sv_the_name; \
	})
static __attribute__((__no_sanitize__("thread"), __unused__)) uint32_t sv_name_number(struct sv_name *name)
{
	if (name->number == 0)
		name->number = sv_string(name->text[0] == '&' ? name->text + 1 : name->text);
	return name->number;
}

void *memset(void *, int, size_t);
void *memcpy(void *, const void *, size_t);
void *memmove(void *, const void *, size_t);
int memcmp(const void *, const void *, size_t);
size_t strlen(const char *);
int strcmp(const char *, const char *);
int strncmp(const char *, const char *, size_t);
char *strstr(const char *, const char *);
#ifndef SV_SHIM
/* The compiler's callbacks do not see what these do. */
#define memset __tsan_memset
#define memcpy __tsan_memcpy
#define memmove __tsan_memmove
#endif

#endif
