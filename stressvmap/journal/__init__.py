# SPDX-License-Identifier: GPL-2.0-only
"""What really happened, in one order: event kinds, the in-memory journal, and its file format.

Not this room's business: what the events mean for an invariant (checks/), and how they are drawn (report/).
"""
