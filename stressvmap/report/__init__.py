# SPDX-License-Identifier: GPL-2.0-only
"""What people look at: the live display, verdicts, tables and timelines, all rendered from results and journals.

Not this room's business: judging. It computes nothing that a check or a metric should have computed.
"""
