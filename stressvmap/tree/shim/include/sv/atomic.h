/* SPDX-License-Identifier: GPL-2.0-only */
/* <linux/atomic.h>: each operation one marked, indivisible step (kernel/struct.py:AtomicLong). */
#ifndef SV_ATOMIC_H
#define SV_ATOMIC_H

enum sv_atomic_op { SV_ADD, SV_AND, SV_OR, SV_XOR, SV_XCHG };

/* Work on `bytes` bytes (4 or 8) at `address`, signed; the value before. */
s64 sv_atomic_read(const void *address, int bytes, struct sv_name *name);
void sv_atomic_set(void *address, s64 value, int bytes, struct sv_name *name);
s64 sv_atomic_fetch(void *address, enum sv_atomic_op op, s64 value, int bytes, struct sv_name *name);
/* Store `value` if `old` was there; what was there. */
s64 sv_atomic_cmpxchg(void *address, s64 old, s64 value, int bytes, struct sv_name *name);

#define ATOMIC_INIT(value) { (value) }
#define ATOMIC_LONG_INIT(value) { (value) }
#define ATOMIC64_INIT(value) { (value) }

#define SV_COUNTER(v) &(v)->counter
#define SV_FETCH(v, op, value) \
	((__typeof__((v)->counter))sv_atomic_fetch(SV_COUNTER(v), op, value, sizeof((v)->counter), SV_NAME(#v)))

#define atomic_read(v) ((__typeof__((v)->counter))sv_atomic_read(SV_COUNTER(v), sizeof((v)->counter), SV_NAME(#v)))
#define atomic_set(v, value) sv_atomic_set(SV_COUNTER(v), value, sizeof((v)->counter), SV_NAME(#v))
#define atomic_add(n, v) ((void)SV_FETCH(v, SV_ADD, n))
#define atomic_sub(n, v) ((void)SV_FETCH(v, SV_ADD, -(n)))
#define atomic_inc(v) ((void)SV_FETCH(v, SV_ADD, 1))
#define atomic_dec(v) ((void)SV_FETCH(v, SV_ADD, -1))
#define atomic_add_return(n, v) ({ __auto_type sv_n = (n); SV_FETCH(v, SV_ADD, sv_n) + sv_n; })
#define atomic_sub_return(n, v) ({ __auto_type sv_n = (n); SV_FETCH(v, SV_ADD, -sv_n) - sv_n; })
#define atomic_inc_return(v) (SV_FETCH(v, SV_ADD, 1) + 1)
#define atomic_dec_return(v) (SV_FETCH(v, SV_ADD, -1) - 1)
#define atomic_fetch_add(n, v) SV_FETCH(v, SV_ADD, n)
#define atomic_fetch_sub(n, v) SV_FETCH(v, SV_ADD, -(n))
#define atomic_fetch_inc(v) SV_FETCH(v, SV_ADD, 1)
#define atomic_fetch_or(n, v) SV_FETCH(v, SV_OR, n)
#define atomic_fetch_and(n, v) SV_FETCH(v, SV_AND, n)
#define atomic_dec_and_test(v) (atomic_dec_return(v) == 0)
#define atomic_inc_and_test(v) (atomic_inc_return(v) == 0)
#define atomic_sub_and_test(n, v) (atomic_sub_return(n, v) == 0)
#define atomic_xchg(v, value) SV_FETCH(v, SV_XCHG, value)
#define atomic_cmpxchg(v, old, value) \
	((__typeof__((v)->counter))sv_atomic_cmpxchg(SV_COUNTER(v), old, value, sizeof((v)->counter), SV_NAME(#v)))
#define atomic_try_cmpxchg(v, old, value) \
	({ \
		__auto_type sv_expected = (old); \
		__auto_type sv_found = atomic_cmpxchg(v, *sv_expected, value); \
		bool sv_is_done = sv_found == *sv_expected; \
		if (!sv_is_done) \
			*sv_expected = sv_found; \
		sv_is_done; \
	})
#define atomic_long_read atomic_read
#define atomic_long_set atomic_set
#define atomic_long_add atomic_add
#define atomic_long_sub atomic_sub
#define atomic_long_inc atomic_inc
#define atomic_long_dec atomic_dec
#define atomic_long_add_return atomic_add_return
#define atomic_long_sub_return atomic_sub_return
#define atomic_long_add_return_relaxed atomic_add_return
#define atomic_long_inc_return atomic_inc_return
#define atomic_long_dec_return atomic_dec_return
#define atomic_long_fetch_add atomic_fetch_add
#define atomic_long_xchg atomic_xchg
#define atomic_long_cmpxchg atomic_cmpxchg
#define atomic_long_try_cmpxchg atomic_try_cmpxchg
#define atomic64_read atomic_read
#define atomic64_set atomic_set
#define atomic64_add atomic_add
#define atomic64_sub atomic_sub

#define xchg(pointer, value) \
	((__typeof__(*(pointer)))sv_atomic_fetch(pointer, SV_XCHG, (s64)(value), sizeof(*(pointer)), SV_NAME(#pointer)))
#define cmpxchg(pointer, old, value) \
	((__typeof__(*(pointer)))sv_atomic_cmpxchg(pointer, (s64)(old), (s64)(value), sizeof(*(pointer)), \
						   SV_NAME(#pointer)))
#define cmpxchg_relaxed cmpxchg
#define cmpxchg_release cmpxchg
#define xchg_relaxed xchg
#define try_cmpxchg(pointer, old, value) \
	({ \
		__typeof__(*(pointer)) *sv_expected = (old); \
		__typeof__(*(pointer)) sv_found = cmpxchg(pointer, *sv_expected, value); \
		bool sv_is_done = sv_found == *sv_expected; \
		if (!sv_is_done) \
			*sv_expected = sv_found; \
		sv_is_done; \
	})
#define try_cmpxchg_release try_cmpxchg
#define try_cmpxchg_relaxed try_cmpxchg

#define SV_BIT_OP(n, map, op, value) sv_atomic_fetch((unsigned long *)(map) + BIT_WORD(n), op, value, 8, SV_NAME(#map))
#define set_bit(n, map) ((void)SV_BIT_OP(n, map, SV_OR, BIT_MASK(n)))
#define clear_bit(n, map) ((void)SV_BIT_OP(n, map, SV_AND, ~BIT_MASK(n)))
#define test_and_set_bit(n, map) (!!(SV_BIT_OP(n, map, SV_OR, BIT_MASK(n)) & BIT_MASK(n)))
#define test_and_clear_bit(n, map) (!!(SV_BIT_OP(n, map, SV_AND, ~BIT_MASK(n)) & BIT_MASK(n)))

#endif
