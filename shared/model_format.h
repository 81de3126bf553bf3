/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a model file is, by its content: people hand over what they have, and a framework
 * says of another one's file that one of its own records is missing. Nothing here unpacks or
 * trusts anything: names and magic numbers are looked at within bounds.
 *
 * Formats: zip by PKWARE's APPNOTE 6.3.10, 4.3; pickle by CPython's pickletools; safetensors,
 * GGUF, ONNX (onnx.proto), HDF5, NumPy and TFLite by their own documents.
 */

#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"

/* Where the bytes come from. Returns how many it read, fewer only at the end or when they
 * cannot be read. */
struct model_file {
	size_t (*read)(void *context, uint64_t at, void *buffer, size_t bytes);
	void *context;
	uint64_t bytes;
};

enum {
	_MODEL_FORMAT_E_SUCCESS,
	MODEL_FORMAT_E_OTHER, /* something else, said in the sentence with what to do */
};

/* 0: a TorchScript archive, or what may be one. */
int model_format_check_torchscript(const struct model_file *file, struct err *err);
