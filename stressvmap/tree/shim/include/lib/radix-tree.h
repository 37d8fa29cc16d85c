/* SPDX-License-Identifier: GPL-2.0-only */
/* lib/radix-tree.h: where the xarray's nodes come from, which sv/slab.h declares. */
