# SPDX-License-Identifier: GPL-2.0-only
"""mm/vmalloc.c retold in Python, function by function: a class a kernel version, a subclass a patch.

A patch overrides only the functions it touches, so its file is its diff. Not this room's business: who runs next, and
whether any of it is right; no function here knows which runtime drives it, or calls a check.
"""
