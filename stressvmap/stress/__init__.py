# SPDX-License-Identifier: GPL-2.0-only
"""Workloads, the harness that runs them, and what is made of many runs.

Not this room's business: how a result looks (report/), and where a configuration comes from (cli/).
"""
