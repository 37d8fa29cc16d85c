# SPDX-License-Identifier: GPL-2.0-only
"""The code under test as a kernel tree's own C: built with our shim headers and engine into a library, driven through
ctypes, its binary journal decoded into the one journal format.

Not its business: schedules, strategies, checks, files of a run. `shim/` is the C; the rest builds, drives and decodes.
"""
