/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The tensors of one computation as torch's: inputs over the loader's memory, outputs where torch
 * has put them, or in a copy if they do not lie one element behind the other.
 */

#include "loader/aoti/abi.h"
#include "loader/aoti/call.h"
#include "loader/engine.h"
#include "shared/err.h"

struct tensors {
	const struct aoti_torch *torch;
	struct aoti_tensor *inputs[ENGINE_TENSORS_MAX]; /* in the model's order, as all */
	struct aoti_tensor *outputs[ENGINE_TENSORS_MAX];
	void *copies[ENGINE_TENSORS_MAX];
};

void tensors_init(struct tensors *tensors, const struct aoti_torch *torch);
/* Makes the inputs of @given, which are in the configuration's order. Outcomes of infer. */
int tensors_put(struct tensors *tensors, const struct call *call,
                const struct engine_tensor *given, size_t n, struct err *err);
/* Describes output @i, called @name, which stays as it is until tensors_drop(). Outcomes of infer. */
int tensors_take(struct tensors *tensors, size_t i, const char *name,
                 struct engine_tensor *ret_tensor, struct err *err);
/* Releases the inputs that the model has not taken. */
void tensors_drop_inputs(struct tensors *tensors);
/* Releases everything. */
void tensors_drop(struct tensors *tensors);
