/* SPDX-License-Identifier: GPL-2.0-only */
/* mm/internal.h: what the files of mm/ share, as far as mm/vmalloc.c takes part. */
