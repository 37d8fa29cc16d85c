# SPDX-License-Identifier: GPL-2.0-only
"""Mutation testing of the model: `python -m tests.mutants` breaks each version one line at a time, mechanically, and
says what noticed.
"""
