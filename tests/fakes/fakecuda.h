/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the two halves of the fake driver share: its card and faults (fakecuda.c), and the card's
 * memory (fakecuda_memory.c). */

#include <stdbool.h>
#include <stddef.h>

#include "loader/gpu/cuda_library.h"
#include "tests/fakes/fakegpu.h"

#define FAKECUDA_E_INVALID       1
#define FAKECUDA_E_NO_DEVICE     100
#define FAKECUDA_E_BAD_DEVICE    101
#define FAKECUDA_E_NOT_SUPPORTED 801

struct fakecuda_faults {
	unsigned int oom;
	unsigned int slow_copy_ms;
	bool has_no_import;
	bool has_no_vmm;
	bool has_no_pin;
	bool is_exclusive;
};

/* The faults that the control file asks for now. */
FAKEGPU_HIDDEN struct fakecuda_faults fakecuda_read_faults(void);

/* The device that was asked for last, as the process counts them. */
FAKEGPU_HIDDEN extern unsigned int fakecuda_ordinal;
/* That card, as the machine counts them. */
FAKEGPU_HIDDEN unsigned int fakecuda_card(void);

/* Makes a memfd of the card; -1 when the card has too little left. */
FAKEGPU_HIDDEN int fakecuda_take(size_t bytes);
