/* SPDX-License-Identifier: GPL-2.0-only */
/* <linux/minmax.h>, <linux/math.h>, <linux/align.h>, <linux/overflow.h>, <linux/log2.h>, <linux/bitops.h>. */
#ifndef SV_NUMBERS_H
#define SV_NUMBERS_H

#define min(a, b) ({ __auto_type sv_a = (a); __auto_type sv_b = (b); sv_a < sv_b ? sv_a : sv_b; })
#define max(a, b) ({ __auto_type sv_a = (a); __auto_type sv_b = (b); sv_a > sv_b ? sv_a : sv_b; })
#define min_t(type, a, b) ({ type sv_a = (a); type sv_b = (b); sv_a < sv_b ? sv_a : sv_b; })
#define max_t(type, a, b) ({ type sv_a = (a); type sv_b = (b); sv_a > sv_b ? sv_a : sv_b; })
#define min3(a, b, c) min(min(a, b), c)
#define max3(a, b, c) max(max(a, b), c)
#define umin(a, b) min_t(unsigned long, a, b)
#define umax(a, b) max_t(unsigned long, a, b)
#define clamp_t(type, value, low, high) min_t(type, max_t(type, value, low), high)
#define clamp(value, low, high) clamp_t(__typeof__(value), value, low, high)
#define swap(a, b) do { __typeof__(a) sv_a = (a); (a) = (b); (b) = sv_a; } while (0)
#define abs(x) ({ __auto_type sv_x = (x); sv_x < 0 ? -sv_x : sv_x; })

#define __ALIGN_MASK(x, mask) (((x) + (mask)) & ~(mask))
#define ALIGN(x, a) __ALIGN_MASK(x, (__typeof__(x))(a)-1)
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a)-1)) == 0)
#define PTR_ALIGN(pointer, a) ((__typeof__(pointer))ALIGN((unsigned long)(pointer), (a)))
#define PAGE_ALIGN(address) ALIGN(address, PAGE_SIZE)
#define PFN_ALIGN(address) PAGE_ALIGN((unsigned long)(address))
#define PAGE_ALIGN_DOWN(address) ALIGN_DOWN(address, PAGE_SIZE)
#define PAGE_ALIGNED(address) IS_ALIGNED((unsigned long)(address), PAGE_SIZE)
#define offset_in_page(pointer) ((unsigned long)(pointer) & ~PAGE_MASK)
#define __round_mask(x, y) ((__typeof__(x))((y)-1))
#define round_up(x, y) ((((x)-1) | __round_mask(x, y)) + 1)
#define round_down(x, y) ((x) & ~__round_mask(x, y))
#define roundup(x, y) ((((x) + ((y)-1)) / (y)) * (y))
#define rounddown(x, y) ((x) - (x) % (y))
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#define DIV_ROUND_CLOSEST(n, d) (((n) + (d) / 2) / (d))
#define check_add_overflow(a, b, result) __builtin_add_overflow(a, b, result)
#define check_sub_overflow(a, b, result) __builtin_sub_overflow(a, b, result)
#define check_mul_overflow(a, b, result) __builtin_mul_overflow(a, b, result)
#define check_shl_overflow(a, by, result) \
	({ \
		__typeof__(a) sv_a = (a); \
		unsigned int sv_by = (by); \
		*(result) = sv_by < SV_LONG_BITS ? sv_a << sv_by : 0; \
		sv_by >= SV_LONG_BITS || *(result) >> sv_by != sv_a; \
	})
#define array_size(n, size) ((size_t)(n) * (size))
#define size_mul(a, b) ((size_t)(a) * (b))
#define size_add(a, b) ((size_t)(a) + (b))
#define struct_size(pointer, member, n) (sizeof(*(pointer)) + sizeof((pointer)->member[0]) * (n))
#define do_div(n, base) ({ unsigned int sv_rest = (n) % (base); (n) /= (base); sv_rest; })

#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK(high, low) ((~0UL << (low)) & (~0UL >> (SV_LONG_BITS - 1 - (high))))
#define fls(x) ((x) ? 32 - __builtin_clz(x) : 0)
#define fls_long(x) ((x) ? SV_LONG_BITS - __builtin_clzl(x) : 0)
#define fls64(x) fls_long((unsigned long)(x))
#define __fls(x) ((unsigned long)(SV_LONG_BITS - 1 - __builtin_clzl(x)))
#define __ffs(x) ((unsigned long)__builtin_ctzl(x))
#define ffs(x) __builtin_ffs(x)
#define ffz(x) __ffs(~(x))
#define hweight_long(x) ((unsigned int)__builtin_popcountl(x))
#define is_power_of_2(n) ((n) != 0 && ((n) & ((n)-1)) == 0)
#define ilog2(n) ((n) ? SV_LONG_BITS - 1 - __builtin_clzl((unsigned long)(n)) : -1)
#define order_base_2(n) ((n) > 1 ? ilog2((n)-1) + 1 : 0)
/* Constant where `n` is: array sizes are made of it. */
#define roundup_pow_of_two(n) \
	((n) > 1 ? 1UL << (SV_LONG_BITS - __builtin_clzl(((unsigned long)(n)-1) | ((n) <= 1))) : 1UL)
#define rounddown_pow_of_two(n) (1UL << ilog2(n))
#define get_order(size) \
	({ \
		unsigned long sv_pages = ((unsigned long)(size)-1) >> PAGE_SHIFT; \
		sv_pages ? ilog2(sv_pages) + 1 : 0; \
	})
#define get_count_order(n) order_base_2(n)
#define get_count_order_long(n) order_base_2(n)

#endif
