# SPDX-License-Identifier: GPL-2.0-only
"""The runtimes and the strategies: who runs next.

Not this room's business: what a task does (kernel/, vmalloc/), and whether it was right (checks/).
"""
