/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * ONNX Runtime's C interface, as far as engine onnx calls it.
 *
 * The library hands out one table of functions (OrtGetApiBase()->GetApi(VERSION)), which only ever
 * grows at its end: a function's place is the same in all versions that have it. So nothing of
 * the runtime is needed to build the engine. Places, signatures and numbers are those of
 * onnxruntime_c_api.h; each gap between functions that are called is an array, and static
 * asserts below hold each place. A status is NULL for success, else the caller's to release.
 * Every object is released by its ort_release_...(), which takes NULL.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The oldest interface that has all of them, and the runtime that brought it. */
#define ORT_API      17
#define ORT_API_TEXT "1.17"
/* The one that brought struct ort_editor. */
#define ORT_API_EDITOR 22

/* OrtErrorCode */
enum ort_code {
	ORT_OK,
	ORT_FAIL,
	ORT_INVALID_ARGUMENT,
	ORT_NO_SUCHFILE,
	ORT_NO_MODEL,
	ORT_ENGINE_ERROR,
	ORT_RUNTIME_EXCEPTION,
	ORT_INVALID_PROTOBUF,
	ORT_MODEL_LOADED,
	ORT_NOT_IMPLEMENTED,
	ORT_INVALID_GRAPH,
	ORT_EP_FAIL,
};

/* ONNXTensorElementDataType, which is TensorProto.DataType of onnx.proto as well */
enum ort_type {
	ORT_TYPE_UNDEFINED,
	ORT_TYPE_FLOAT,
	ORT_TYPE_UINT8,
	ORT_TYPE_INT8,
	ORT_TYPE_UINT16,
	ORT_TYPE_INT16,
	ORT_TYPE_INT32,
	ORT_TYPE_INT64,
	ORT_TYPE_STRING,
	ORT_TYPE_BOOL,
	ORT_TYPE_FLOAT16,
	ORT_TYPE_DOUBLE,
	ORT_TYPE_UINT32,
	ORT_TYPE_UINT64,
	ORT_TYPE_COMPLEX64,
	ORT_TYPE_COMPLEX128,
	ORT_TYPE_BFLOAT16,
};

/* ONNXType */
enum ort_kind {
	ORT_KIND_UNKNOWN,
	ORT_KIND_TENSOR,
	ORT_KIND_SEQUENCE,
	ORT_KIND_MAP,
	ORT_KIND_OPAQUE,
	ORT_KIND_SPARSE,
	ORT_KIND_OPTIONAL,
};

#define ORT_LOG_FATAL        4 /* OrtLoggingLevel */
#define ORT_ALLOCATOR_DEVICE 0 /* OrtAllocatorType */
#define ORT_MEMORY_DEFAULT   0 /* OrtMemType */

struct ort_status;
struct ort_env;
struct ort_options; /* OrtSessionOptions */
struct ort_session;
struct ort_value;
struct ort_value_info;
struct ort_graph;
struct ort_model;
struct ort_editor;
struct ort_memory; /* OrtMemoryInfo */
struct ort_type_info;
struct ort_tensor_info; /* OrtTensorTypeAndShapeInfo */
struct ort_cuda;        /* OrtCUDAProviderOptionsV2 */

/* OrtAllocator, as its version says; older members come first. */
struct ort_allocator {
	uint32_t version;
	void *(*alloc)(struct ort_allocator *allocator, size_t bytes);
	void (*free)(struct ort_allocator *allocator, void *data);
	const struct ort_memory *(*info)(const struct ort_allocator *allocator);
};

typedef void ort_unused(void);

struct ort_api {
	struct ort_status *(*create_status)(enum ort_code code, const char *text);
	enum ort_code (*status_code)(const struct ort_status *status);
	const char *(*status_text)(const struct ort_status *status);
	struct ort_status *(*create_env)(int log_level, const char *name,
	                                 struct ort_env **ret_env);
	ort_unused *unused_4[4];
	struct ort_status *(*create_session)(const struct ort_env *env, const void *model,
	                                     size_t bytes,
	                                     const struct ort_options *options,
	                                     struct ort_session **ret_session);
	/* @ret_outputs are NULL before; the caller owns them. @run_options NULL: none. */
	struct ort_status *(*run)(struct ort_session *session, const void *run_options,
	                          const char *const *input_names,
	                          const struct ort_value *const *inputs, size_t n_inputs,
	                          const char *const *output_names, size_t n_outputs,
	                          struct ort_value **ret_outputs);
	struct ort_status *(*create_options)(struct ort_options **ret_options);
	ort_unused *unused_11[8];
	struct ort_status *(*disable_arena)(struct ort_options *options);
	ort_unused *unused_20[4];
	struct ort_status *(*set_intra_threads)(struct ort_options *options, int n);
	struct ort_status *(*set_inter_threads)(struct ort_options *options, int n);
	ort_unused *unused_26[4];
	struct ort_status *(*count_inputs)(const struct ort_session *session,
	                                   size_t *ret_n);
	struct ort_status *(*count_outputs)(const struct ort_session *session,
	                                    size_t *ret_n);
	ort_unused *unused_32;
	struct ort_status *(*input_type)(const struct ort_session *session, size_t i,
	                                 struct ort_type_info **ret_info);
	struct ort_status *(*output_type)(const struct ort_session *session, size_t i,
	                                  struct ort_type_info **ret_info);
	ort_unused *unused_35;
	/* The caller frees the name by the allocator. */
	struct ort_status *(*input_name)(const struct ort_session *session, size_t i,
	                                 struct ort_allocator *allocator,
	                                 char **ret_name);
	struct ort_status *(*output_name)(const struct ort_session *session, size_t i,
	                                  struct ort_allocator *allocator,
	                                  char **ret_name);
	ort_unused *unused_38[10];
	struct ort_status *(*create_tensor)(struct ort_allocator *allocator,
	                                    const int64_t *dims, size_t rank,
	                                    enum ort_type type,
	                                    struct ort_value **ret_value);
	/* The tensor lies in @data, which stays the caller's. */
	struct ort_status *(*create_tensor_over)(const struct ort_memory *memory,
	                                         void *data, size_t bytes,
	                                         const int64_t *dims, size_t rank,
	                                         enum ort_type type,
	                                         struct ort_value **ret_value);
	struct ort_status *(*is_tensor)(const struct ort_value *value, int *ret_is);
	struct ort_status *(*tensor_data)(struct ort_value *value, void **ret_data);
	ort_unused *unused_52;
	struct ort_status *(*text_bytes)(const struct ort_value *value,
	                                 size_t *ret_bytes);
	/* All texts of a tensor, one behind the other, and where each begins. */
	struct ort_status *(*texts)(const struct ort_value *value, void *data,
	                            size_t bytes, size_t *offsets, size_t n_offsets);
	/* Borrowed; NULL where it is no tensor's. */
	struct ort_status *(*as_tensor_info)(const struct ort_type_info *info,
	                                     const struct ort_tensor_info **ret_info);
	struct ort_status *(*kind_of)(const struct ort_type_info *info,
	                              enum ort_kind *ret_kind);
	ort_unused *unused_57[3];
	struct ort_status *(*element_type)(const struct ort_tensor_info *info,
	                                   enum ort_type *ret_type);
	struct ort_status *(*count_dims)(const struct ort_tensor_info *info,
	                                 size_t *ret_n);
	struct ort_status *(*dims)(const struct ort_tensor_info *info, int64_t *dims,
	                           size_t n);
	ort_unused *unused_63[2];
	struct ort_status *(*tensor_info)(const struct ort_value *value,
	                                  struct ort_tensor_info **ret_info);
	ort_unused *unused_66[3];
	struct ort_status *(*create_cpu_memory)(int allocator_type, int memory_type,
	                                        struct ort_memory **ret_memory);
	ort_unused *unused_70[8];
	/* The runtime's own, for names and texts; nobody frees it. */
	struct ort_status *(*default_allocator)(struct ort_allocator **ret_allocator);
	ort_unused *unused_79[13];
	void (*release_env)(struct ort_env *env);
	void (*release_status)(struct ort_status *status);
	void (*release_memory)(struct ort_memory *memory);
	void (*release_session)(struct ort_session *session);
	void (*release_value)(struct ort_value *value);
	ort_unused *unused_97;
	void (*release_type_info)(struct ort_type_info *info);
	void (*release_tensor_info)(struct ort_tensor_info *info);
	void (*release_options)(struct ort_options *options);
	ort_unused *unused_101[24];
	struct ort_status *(*list_providers)(char ***ret_names, int *ret_n);
	struct ort_status *(*free_providers)(char **names, int n);
	ort_unused *unused_127[3];
	struct ort_status *(*set_entry)(struct ort_options *options, const char *key,
	                                const char *value);
	ort_unused *unused_131[19];
	/* A session uses @value where it lies, in place of the model's initializer. */
	struct ort_status *(*add_initializer)(struct ort_options *options,
	                                      const char *name,
	                                      const struct ort_value *value);
	ort_unused *unused_151[25];
	struct ort_status *(*register_allocator)(struct ort_env *env,
	                                         struct ort_allocator *allocator);
	ort_unused *unused_177[27];
	struct ort_status *(*append_cuda)(struct ort_options *options,
	                                  const struct ort_cuda *cuda);
	struct ort_status *(*create_cuda)(struct ort_cuda **ret_cuda);
	struct ort_status *(*update_cuda)(struct ort_cuda *cuda, const char *const *keys,
	                                  const char *const *values, size_t n);
	ort_unused *unused_207;
	void (*release_cuda)(struct ort_cuda *cuda);
	ort_unused *unused_209[43];
	/* Where the bytes of the element go, which has so many from then on. */
	struct ort_status *(*resize_text)(struct ort_value *value, size_t i, size_t bytes,
	                                  char **ret_text);
	ort_unused *unused_253[32];
	/* From here on: only in a table that was asked for as ORT_API_EDITOR. */
	void (*release_value_info)(struct ort_value_info *info);
	ort_unused *unused_286;
	void (*release_graph)(struct ort_graph *graph);
	void (*release_model)(struct ort_model *model);
	ort_unused *unused_289[2];
	const struct ort_editor *(*editor)(void);
};

/* OrtModelEditorApi: a model that is changed before its session is built. */
struct ort_editor {
	ort_unused *unused_0[5];
	struct ort_status *(*create_value_info)(const char *name,
	                                        const struct ort_type_info *info,
	                                        struct ort_value_info **ret_info);
	ort_unused *unused_6;
	struct ort_status *(*create_graph)(struct ort_graph **ret_graph);
	/* The graph takes them, and leaves NULL. */
	struct ort_status *(*set_inputs)(struct ort_graph *graph,
	                                 struct ort_value_info **infos, size_t n);
	struct ort_status *(*set_outputs)(struct ort_graph *graph,
	                                  struct ort_value_info **infos, size_t n);
	/* The graph takes @value. @is_external: its data is used where it lies. */
	struct ort_status *(*add_initializer)(struct ort_graph *graph, const char *name,
	                                      struct ort_value *value, bool is_external);
	ort_unused *unused_11;
	struct ort_status *(*create_model)(const char *const *domains,
	                                   const int *versions, size_t n,
	                                   struct ort_model **ret_model);
	/* The model takes @graph. */
	struct ort_status *(*add_graph)(struct ort_model *model, struct ort_graph *graph);
	ort_unused *unused_14[2];
	/* Its session is not built before finish(). */
	struct ort_status *(*create_session)(const struct ort_env *env, const void *model,
	                                     size_t bytes,
	                                     const struct ort_options *options,
	                                     struct ort_session **ret_session);
	ort_unused *unused_17;
	struct ort_status *(*apply)(struct ort_session *session, struct ort_model *model);
	struct ort_status *(*finish)(struct ort_session *session,
	                             const struct ort_options *options, void *packed);
};

#define ORT_PLACE(member, place)                                                         \
	static_assert(offsetof(struct ort_api, member) == (place) * sizeof(void *),      \
	              "OrtApi: " #member)

ORT_PLACE(create_env, 3);
ORT_PLACE(create_session, 8);
ORT_PLACE(create_options, 10);
ORT_PLACE(disable_arena, 19);
ORT_PLACE(set_intra_threads, 24);
ORT_PLACE(count_inputs, 30);
ORT_PLACE(input_type, 33);
ORT_PLACE(input_name, 36);
ORT_PLACE(create_tensor, 48);
ORT_PLACE(text_bytes, 53);
ORT_PLACE(element_type, 60);
ORT_PLACE(tensor_info, 65);
ORT_PLACE(create_cpu_memory, 69);
ORT_PLACE(default_allocator, 78);
ORT_PLACE(release_env, 92);
ORT_PLACE(release_type_info, 98);
ORT_PLACE(list_providers, 125);
ORT_PLACE(set_entry, 130);
ORT_PLACE(add_initializer, 150);
ORT_PLACE(register_allocator, 176);
ORT_PLACE(append_cuda, 204);
ORT_PLACE(release_cuda, 208);
ORT_PLACE(resize_text, 252);
ORT_PLACE(release_value_info, 285);
ORT_PLACE(release_graph, 287);
ORT_PLACE(editor, 291);
static_assert(offsetof(struct ort_editor, finish) == 19 * sizeof(void *),
              "OrtModelEditorApi");

struct ort_api_base {
	/* NULL: the library is older than @version. */
	const struct ort_api *(*api)(uint32_t version);
	const char *(*version)(void); /* static, "1.17.3" */
};
