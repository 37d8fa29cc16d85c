# SPDX-License-Identifier: GPL-2.0-only
"""What must hold: one file an invariant, each over the journal alone.

Not this room's business: which code under test, runtime or strategy produced the journal, and how a violation is
rendered.
"""
