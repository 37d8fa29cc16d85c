# SPDX-License-Identifier: GPL-2.0-only
"""A simulated machine with the names of the kernel's own API: what <linux/*.h> gives mm/vmalloc.c.

Every operation another CPU could see is a scheduling point *before* it happens; the mutation and its journal entry
are then one step. Not this room's business: vmalloc itself, who runs next (sched/), and whether anything is right
(checks/).
"""
