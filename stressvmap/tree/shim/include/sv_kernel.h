/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Included before the first line of every file under test, and of every file of the shim: what <linux/...> gives a
 * kernel file. The file's own #includes then find headers of its tree (whitelist.txt) or empty ones.
 *
 * What a name means is said where the Python package says it: stressvmap/kernel/. What the kernel does for something
 * that nobody checks here (memcg, kasan, kmemleak, tracing) does nothing, and its header says so.
 *
 * SV_WITHOUT_TREE: for tests of the primitives, which no kernel file takes part in.
 */
#ifndef SV_KERNEL_H
#define SV_KERNEL_H

#include "engine.h"

#include "sv/config.h"
#include "sv/types.h"
#include "sv/compiler.h"
#include "sv/bug.h"
#include "sv/numbers.h"
#include "sv/bitmap.h"
#include "sv/lock.h"
#include "sv/atomic.h"
#include "sv/rcu.h"
#include "sv/cpu.h"
#include "sv/slab.h"
#include "sv/workqueue.h"
#include "sv/registered.h"
#ifndef SV_WITHOUT_TREE
#include "sv/from_tree.h"
#endif
#include "sv/memory.h"
#include "sv/pagetable.h"
#include "sv/seq_file.h"
#include "sv/unchecked.h"
/* Names that a file under test defines itself: the builder lists them. */
#include "sv_undef.h"

#endif
