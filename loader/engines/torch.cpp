/* SPDX-License-Identifier: Apache-2.0 */

/*
 * TorchScript through libtorch, behind loader/engine.h. With the headers torch_*.hpp beside it
 * the only C++ of the project: every call is noexcept and runs inside guard(), so nothing is
 * ever thrown across the seam. What needs no type of libtorch's is C, in torch_*.c.
 *
 * stage() checks the configuration and, for a device with memory of its own, tries the module
 * on the host (try_load()); load() then builds it in place: over shared or placed weights
 * (torch_import.hpp), or as libtorch does. compute() turns requests into tensors and back
 * (torch_values.hpp).
 *
 * Builds against libtorch 1.13 and 2.x. Weights are parsed from the bytes that the loader read,
 * never from a path, so that the bytes that were hashed are those that run.
 */

#include <ATen/Parallel.h>
#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <torch/version.h>

#include <dlfcn.h>

#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "loader/engine.h"
#include "loader/engines/torch_cuda.hpp"
#include "loader/engines/torch_declare.hpp"
#include "loader/engines/torch_import.hpp"
#include "loader/engines/torch_memory.hpp"
#include "loader/engines/torch_values.hpp"

extern "C" {
#include "loader/engines/torch_account.h"
#include "loader/engines/torch_driver.h"
#include "loader/engines/torch_options.h"
#include "loader/engines/torch_text.h"
#include "shared/model_format.h"
}

struct engine {
	const struct engine_config *config;
	torch::jit::Module module; /* empty until load() */
	c10::Device device;
	/* libtorch has no such device, but the weights will be placed there: the host has to
	 * compute over that memory. */
	bool needs_host;
	bool writes_inputs; /* forward may change its inputs: they must be copies */
	std::vector<at::Tensor> outputs; /* keep the memory until the next call */
};

namespace
{

/* Runs @body, which returns 0 or an outcome. An exception becomes @outcome, or @memory_outcome
 * when memory ran out. */
template <typename Body>
int guard(struct err *err, int outcome, int memory_outcome, Body &&body) noexcept
{
	try {
		return body();
	} catch (const c10::Error &error) {
		return torch_text_fail(err, outcome, memory_outcome,
		                       error.what_without_backtrace());
	} catch (const std::bad_alloc &) {
		return err_set(err, memory_outcome, "out of memory");
	} catch (const std::exception &error) {
		return torch_text_fail(err, outcome, memory_outcome, error.what());
	} catch (...) {
		return err_set(err, outcome, "libtorch threw something unknown");
	}
}

/* The part of libtorch with its devices. Opening it registers them, which has to happen before
 * libtorch is first asked for a device. Never closed. */
void *devices_library;

int open_devices(const char *name, struct err *err)
{
	devices_library = dlopen(TORCH_DEVICES_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!devices_library)
		return err_set(err, ENGINE_E_DEVICE,
		               "device '%s' is out of reach, libtorch " TORCH_VERSION
		               " cannot be opened: %s",
		               name, dlerror());
	return 0;
}

/* Reads "cpu", "cuda" or "cuda:N". Only the latter open libtorch's devices: a loader on the host
 * has neither their memory nor their failures. */
int read_device(const char *name, c10::Device *ret_device, struct err *err)
{
	c10::Device device(c10::kCPU);
	char driver[64];
	size_t found;
	int r;

	try {
		device = c10::Device(std::string(name));
	} catch (const c10::Error &) {
		device = c10::Device(c10::kMeta);
	}
	if (device.type() == c10::kCPU) {
		*ret_device = c10::Device(c10::kCPU);
		return 0;
	}
	if (device.type() != c10::kCUDA)
		return err_set(err, ENGINE_E_CONFIG,
		               "device must be cpu, cuda or cuda:N, not '%s'", name);
	/* Without an index libtorch would take the card that the thread used last. */
	if (!device.has_index())
		device.set_index(0);
	r = open_devices(name, err);
	if (r)
		return r;
	found = torch::cuda::is_available() ? torch::cuda::device_count() : 0;
	if (static_cast<size_t>(device.index()) >= found)
		return err_set(err, ENGINE_E_DEVICE,
		               "there is no device '%s': libtorch " TORCH_VERSION
		               " finds %zu CUDA devices, with %s; set device = cpu, or "
		               "install a libtorch with CUDA and a driver that is new "
		               "enough for it",
		               name, found, torch_driver_name(driver, sizeof(driver)));
	*ret_device = device;
	return 0;
}

/* The index in a name that read_device() has read. */
int device_number(const char *name)
{
	c10::Device device{ std::string(name) };

	return device.has_index() ? device.index() : 0;
}

/* Asks whether forward may write its inputs, which lie in memory that this process cannot
 * write. True also where the analysis is not sure. */
bool may_write_inputs(const torch::jit::Method &method, size_t n_inputs) noexcept
{
	try {
		auto graph = method.graph()->copy();

		torch::jit::Inline(*graph);
		torch::jit::AliasDb aliases(graph);
		for (size_t i = 1; i <= n_inputs; i++)
			if (aliases.hasWriters(graph->inputs().at(i)))
				return true;
		return false;
	} catch (...) {
		return true;
	}
}

/* Builds the module over the file at @base, which @adapter reads. */
int import_at(struct engine *engine, std::shared_ptr<weights_adapter> adapter, void *base,
              struct err *err)
{
	std::string why;

	try {
		engine->module =
			shared_import(std::move(adapter), base, engine->device).run();
		return 0;
	} catch (const c10::Error &error) {
		why = error.what_without_backtrace();
	} catch (const std::bad_alloc &) {
		throw;
	} catch (const std::exception &error) {
		why = error.what();
	}
	/* A bad file fails in torch::jit::load(), too, which explains it better. */
	return torch_text_set(err, ENGINE_E_PRIVATE, "", why.c_str());
}

int load_shared(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;

	/* The cast is safe: the mapping is copy-on-write. */
	return import_at(engine, std::make_shared<weights_adapter>(config),
	                 const_cast<void *>(config->weights), err);
}

/* Builds the module over weights on the device: small records are read from there, tensors
 * stay. */
int load_placed(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	const struct engine_placed *placed = config->placed;
	void *base = reinterpret_cast<void *>(static_cast<uintptr_t>(placed->address));
	int r;

	if (engine->needs_host && !placed->host)
		return err_set(err, ENGINE_E_PRIVATE,
		               "libtorch " TORCH_VERSION " knows no device '%s'",
		               config->device);
	if (engine->needs_host)
		base = const_cast<void *>(placed->host);
	r = import_at(engine, std::make_shared<weights_adapter>(config), base, err);
	if (r == 0 && placed->is_read_only)
		own_buffers().run(engine->module);
	return r;
}

int look(struct engine *engine, struct err *err);

size_t read_model_file(void *context, uint64_t at, void *buffer, size_t bytes)
{
	return static_cast<const weights_adapter *>(context)->read(at, buffer, bytes, "");
}

/* Explains a file of another format; libtorch would only name a missing record. */
int check_format(const weights_adapter &adapter, struct err *err)
{
	const struct model_file file = { read_model_file,
		                         const_cast<weights_adapter *>(&adapter),
		                         adapter.size() };

	return model_format_check_torchscript(&file, err) ? ENGINE_E_MODEL : 0;
}

/* Finds out whether the module can be built, before an old generation has to go for it. The
 * trial module does not stay: moved to the device it would leave the constants of its graphs
 * on the host. */
int try_load(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	const c10::Device device = engine->device;
	char *data = static_cast<char *>(const_cast<void *>(config->weights));
	std::optional<file_mapping> file;
	int r;

	if (!data) {
		file.emplace(config->weights_fd, config->weights_bytes);
		data = file->data();
	}
	r = check_format(weights_adapter(data, config->weights_bytes), err);
	if (r)
		return r;
	engine->device = c10::Device(c10::kCPU);
	r = import_at(engine,
	              std::make_shared<weights_adapter>(data, config->weights_bytes),
	              data, err);
	if (r == ENGINE_E_PRIVATE && !config->is_placed) {
		engine->module =
			torch::jit::load(std::make_shared<weights_adapter>(config),
		                         engine->device);
		r = 0;
	}
	engine->device = device;
	if (r == 0)
		r = look(engine, err);
	engine->module = torch::jit::Module();
	return r;
}

/* Builds the module, on the device or over weights that lie there. */
int load(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	int r = config->is_placed ? 0 : check_format(weights_adapter(config), err);

	if (r)
		return r;
	if (config->is_placed)
		r = load_placed(engine, err);
	else if (config->is_shared)
		r = load_shared(engine, err);
	else
		engine->module =
			torch::jit::load(std::make_shared<weights_adapter>(config),
		                         engine->device);
	return r ? r : look(engine, err);
}

/* Checks that the module is what was declared. */
int look(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;

	engine->module.eval();

	auto forward = engine->module.find_method("forward");
	if (!forward)
		return err_set(err, ENGINE_E_MODEL, "the model has no method forward");
	int r = check_arguments(forward->function().getSchema(), config, err);
	if (r == 0)
		engine->writes_inputs = may_write_inputs(
			*forward,
			config->n_inputs > 0
				? config->n_inputs
				: count_required(forward->function().getSchema()));
	return r;
}

void set_threads(uint32_t threads)
{
	static bool is_first = true;

	at::set_num_threads(static_cast<int>(threads));
	/* libtorch takes this number once per process, before any other thread exists. */
	if (is_first)
		at::set_num_interop_threads(1);
	is_first = false;
}

/* True when the weights are in their place only in commit, so that stage cannot build the
 * module that serves. */
bool loads_in_commit(const struct engine *engine)
{
	return engine->config->is_placed || engine->config->is_lean ||
	       !engine->device.is_cpu();
}

/* Does as much in stage as can be done without the device's memory. */
int load_early(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;

	if (!engine->device.is_cpu() && config->is_shared)
		return err_set(err, ENGINE_E_PRIVATE, "device '%s' has memory of its own",
		               config->device);
	if (config->is_placed || !engine->device.is_cpu())
		return try_load(engine, err);
	return loads_in_commit(engine) ? 0 : load(engine, err);
}

int stage(const struct engine_config *config, struct engine **ret_engine,
          struct err *err) noexcept
{
	int r;

	r = guard(err, ENGINE_E_CONFIG, ENGINE_E_FAILED, [&] {
		c10::Device device(c10::kCPU);
		bool needs_host = false;
		bool is_profiling;
		int outcome;

		if (config->weights_bytes == 0)
			return err_set(err, ENGINE_E_CONFIG,
			               "engine torch needs a model file: set path");
		outcome = check_dtypes(config->inputs, config->n_inputs, err);
		if (outcome == 0)
			outcome = check_dtypes(config->outputs, config->n_outputs, err);
		if (outcome == 0)
			outcome = torch_options_read(config, &is_profiling, err);
		if (outcome == 0)
			outcome = read_device(config->device, &device, err);
		if (outcome == ENGINE_E_DEVICE && config->is_placed &&
		    torch_driver_shows_host(device_number(config->device))) {
			needs_host = true;
			outcome = 0;
		}
		if (outcome == 0) {
			*ret_engine = new engine{ config, torch::jit::Module(),
				                  device, needs_host,
				                  true,   {} };
			torch::jit::getProfilingMode() = is_profiling;
			set_threads(config->threads);
			if (device.is_cpu())
				count_main_memory();
		}
		return outcome;
	});
	if (r)
		return r;
	return guard(err, ENGINE_E_MODEL, ENGINE_E_FAILED,
	             [&] { return load_early(*ret_engine, err); });
}

int commit(struct engine *engine, struct err *err) noexcept
{
	bool is_host = engine->device.is_cpu();

	if (loads_in_commit(engine)) {
		/* For another device stage has tried the model itself, so a failure is the
		 * device's. */
		int r = guard(err, is_host ? ENGINE_E_MODEL : ENGINE_E_DEVICE,
		              is_host ? ENGINE_E_FAILED : ENGINE_E_MEMORY,
		              [&] { return load(engine, err); });

		if (r)
			return r;
	}
	return guard(err, ENGINE_E_DEVICE, ENGINE_E_MEMORY, [&] {
		c10::InferenceMode inference;

		engine->module.to(engine->device);
		if (!engine->device.is_cuda())
			return 0;
		torch::cuda::synchronize(engine->device.index());
		return engine->config->working_bytes > 0
		               ? limit_cuda_memory(devices_library, engine->device,
		                                   engine->config->working_bytes, err)
		               : 0;
	});
}

c10::IValue forward(struct engine *engine, const struct engine_tensor *inputs)
{
	std::vector<c10::IValue> arguments;

	for (size_t i = 0; i < engine->config->n_inputs; i++)
		arguments.emplace_back(make_input(&inputs[i], engine->device,
		                                  engine->writes_inputs));
	return engine->module.forward(std::move(arguments));
}

int compute(struct engine *engine, const struct engine_tensor *inputs,
            struct engine_tensor *outputs, struct err *err)
{
	const struct engine_config *config = engine->config;
	c10::InferenceMode inference;
	int r = take_outputs(config, forward(engine, inputs), &engine->outputs, err);

	for (size_t i = 0; i < config->n_outputs && r == 0; i++)
		r = describe(config, i, &engine->outputs[i], &outputs[i], err);
	return r;
}

/* Runs @body, which computes, with everything watched that can go wrong then. */
template <typename Body>
int run(struct engine *engine, struct err *err, Body &&body) noexcept
{
	int r;

	engine->outputs.clear();
	r = guard(err, ENGINE_E_MODEL, ENGINE_E_MEMORY, [&] {
		memory_watch watch(engine->device, engine->config->working_bytes);

		try {
			return body();
		} catch (const std::exception &error) {
			if (!torch_text_blames_request(engine->config, error.what()))
				throw;
			return torch_text_set(err, ENGINE_E_INPUT,
			                      "the model refuses the request: ",
			                      error.what());
		}
	});
	/* A model may have caught the lack of memory, and have failed otherwise. */
	if (r && torch_account_wanted_bytes() > 0)
		r = ENGINE_E_MEMORY;
	if (r && engine->device.is_cpu())
		engine->outputs.clear();
	if (r == 0 || engine->device.is_cpu())
		return r;
	/* Outputs go outside of the handler, whose exception may hold tensors. A device that
	 * has failed for good says so in every call from then on. */
	if (guard(nullptr, ENGINE_E_BROKEN, ENGINE_E_FAILED, [&] {
		    engine->outputs.clear();
		    torch::cuda::synchronize(engine->device.index());
		    return 0;
	    }) == ENGINE_E_BROKEN)
		return ENGINE_E_BROKEN;
	return r;
}

int infer(struct engine *engine, const struct engine_tensor *inputs,
          struct engine_tensor *outputs, struct err *err) noexcept
{
	return run(engine, err, [&] { return compute(engine, inputs, outputs, err); });
}

int declare(struct engine *engine, const struct engine_tensor *example,
            struct engine_declared *declared, struct err *err) noexcept
{
	const struct engine_config *config = engine->config;
	int r;

	if (!example && config->n_inputs > 0)
		return 0;
	if (!example)
		return guard(err, ENGINE_E_MODEL, ENGINE_E_FAILED, [&] {
			return declare_arguments(engine->module.get_method("forward")
			                                 .function()
			                                 .getSchema(),
			                         declared, err);
		});
	r = check_dtypes(config->inputs, config->n_inputs, err);
	if (r)
		return r;
	return run(engine, err, [&] {
		c10::InferenceMode inference;

		return declare_outputs(forward(engine, example), declared, err);
	});
}

void close(struct engine *engine) noexcept
{
	if (!engine)
		return;
	(void)guard(nullptr, ENGINE_E_FAILED, ENGINE_E_FAILED, [&] {
		engine->outputs.clear();
		if (engine->device.is_cuda())
			torch::cuda::synchronize(engine->device.index());
		delete engine;
		return 0;
	});
}

void measure(const struct engine *engine, struct engine_use *ret_use) noexcept
{
	ret_use->peak_bytes = torch_account_peak_bytes();
	ret_use->wanted_bytes = torch_account_wanted_bytes();
	ret_use->available_bytes = engine->config->working_bytes;
}

/* Sends a tiny model the way of a real one: written, read, compiled, computed. After that
 * everything is there that libtorch builds once per process. */
void rehearse()
{
	c10::InferenceMode inference;
	torch::jit::Module small("small");
	std::stringstream file;

	small.register_parameter("w", torch::ones({ 4, 4 }), false);
	small.define("def forward(self, x: Tensor):\n"
	             "    y = torch.relu(torch.linear(x, self.w)) + x\n"
	             "    y = torch.matmul(y, self.w.t()) * 2 - torch.sigmoid(y)\n"
	             "    return torch.softmax(y.reshape(-1, 4), 1)[:, :4]\n");
	small.save(file);
	torch::jit::Module read = torch::jit::load(file, c10::Device(c10::kCPU));
	read.eval();
	(void)read.forward({ torch::ones({ 1, 4 }) });
}

void prepare() noexcept
{
	(void)guard(nullptr, ENGINE_E_FAILED, ENGINE_E_FAILED, [&] {
		/* A model has to ask for a pool: one thread until then. */
		at::set_num_threads(1);
		/* An optimising executor asks which devices there are, and libtorch keeps
		 * that answer for ever: see open_devices(). */
		torch::jit::getProfilingMode() = false;
		torch::jit::GraphOptimizerEnabledGuard unoptimised(false);
		rehearse();
		return 0;
	});
}

} /* namespace */

const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		ENGINE_ABI, "torch", TORCH_VERSION, true,    stage,   commit,  infer,
		nullptr,    close,   measure,       prepare, nullptr, declare,
	};

	return &api;
}
