/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Tells from a file's content which kind of model file it is. People hand over what they have,
 * and a framework only complains that one of its own records is missing in another one's file.
 * Nothing here unpacks or trusts anything: names and magic numbers are read within bounds.
 *
 * Formats: zip by PKWARE's APPNOTE 6.3.10, 4.3; pickle by CPython's pickletools; safetensors,
 * GGUF, ONNX (onnx.proto), HDF5, NumPy and TFLite by their own documents.
 */

#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"

/* The source of the bytes. read() returns how many it read; fewer than asked for only at the end
 * or after an error. */
struct model_file {
	size_t (*read)(void *context, uint64_t at, void *buffer, size_t bytes);
	void *context;
	uint64_t bytes;
};

enum {
	_MODEL_FORMAT_E_SUCCESS,
	MODEL_FORMAT_E_OTHER, /* another format; the sentence names it and a remedy */
};

enum model_format {
	MODEL_FORMAT_TORCHSCRIPT, /* or may be: a framework has to judge */
	MODEL_FORMAT_EXPORTED,    /* torch.export's .pt2 */
	MODEL_FORMAT_COMPILED,    /* AOTInductor's .pt2 */
	MODEL_FORMAT_ONNX,
	MODEL_FORMAT_ORT, /* ONNX Runtime's own */
	MODEL_FORMAT_UNKNOWN,
};

/* The format, and for all but TORCHSCRIPT a sentence that names it, and how to get TorchScript. */
enum model_format model_format_tell(const struct model_file *file, struct err *err);

/* 0: the file is, or may be, a TorchScript archive. Else OTHER with a sentence. */
int model_format_check_torchscript(const struct model_file *file, struct err *err);
/* 0: the file is, or may be, a model of ONNX or in ONNX Runtime's own format. Else OTHER with a
 * sentence. */
int model_format_check_onnx(const struct model_file *file, struct err *err);
/* 0: the file is a package of AOTInductor. Else OTHER with a sentence. */
int model_format_check_aoti(const struct model_file *file, struct err *err);
