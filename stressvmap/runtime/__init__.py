# SPDX-License-Identifier: GPL-2.0-only
"""What a runtime is, and what is asked of it: tasks, scheduling points, parking, draws. Plain data and one base class.

Not this room's business: any particular runtime or strategy (sched/), locks and their meaning (kernel/).
"""
