/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Engine torch on a device that is not the host: meta, which has no memory and computes nothing,
 * but on which every tensor says that it lies. The engine itself offers cpu and cuda alone, so
 * this test is built around its source. argv[1] is a folder of models by torch_models.py, argv[2]
 * the bundled one.
 */

#include "loader/engines/torch.cpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>

/* Constants are compared to keep each once: no meta tensor equals another. */
TORCH_LIBRARY_IMPL(aten, Meta, library)
{
	library.impl("equal", [](const at::Tensor &a, const at::Tensor &b) {
		return a.is_same(b);
	});
}

namespace
{

unsigned int n_failed;

void fail_test(const std::string &what)
{
	(void)std::fprintf(stderr, "FAILED %s\n", what.c_str());
	n_failed++;
}

/* Finds tensors of a module that do not lie on @device. */
class stray
{
      public:
	explicit stray(const c10::Device &device) : device_(device)
	{
	}

	void look(const torch::jit::Module &module)
	{
		for (const at::Tensor &tensor : module.parameters())
			look(tensor, "parameter");
		for (const at::Tensor &tensor : module.buffers())
			look(tensor, "buffer");
		for (const c10::IValue &value : module.attributes())
			look_inside(value);
		auto graph = module.get_method("forward").graph()->copy();
		torch::jit::Inline(*graph);
		look(graph->block());
	}

	std::string found;
	unsigned int n_seen = 0;
	unsigned int n_constants = 0;

      private:
	void look(const at::Tensor &tensor, const char *what)
	{
		n_seen++;
		if (tensor.device() != device_)
			found +=
				std::string(what) + " on " + tensor.device().str() + "; ";
	}

	void look_inside(const c10::IValue &value)
	{
		if (value.isTensor() && value.toTensor().defined())
			look(value.toTensor(), "attribute");
		else if (value.isTensorList())
			for (const at::Tensor &tensor : value.toTensorVector())
				look(tensor, "member of a list");
	}

	void look(torch::jit::Block *block)
	{
		for (torch::jit::Node *node : block->nodes()) {
			if (node->kind() == c10::prim::Constant &&
			    node->output()->type()->isSubtypeOf(
				    *c10::TensorType::get()) &&
			    node->hasAttribute(c10::attr::value)) {
				n_constants++;
				look(node->t(c10::attr::value), "constant");
			}
			for (torch::jit::Block *inner : node->blocks())
				look(inner);
		}
	}

	c10::Device device_;
};

/* Stages and commits as a loader does: with the file in memory, or (lean) with its descriptor. */
void test_commit(const std::string &path, bool is_lean, bool has_constants)
{
	const std::string name = path + (is_lean ? ", lean" : ", not lean");
	const c10::Device meta(c10::kMeta);
	struct engine_config config = {};
	struct tensor_spec input = {};
	struct engine engine = { &config, torch::jit::Module(), meta, false, true, {} };
	struct err err = ERR_NULL;
	struct stat status;
	int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status) < 0)
		return fail_test(name + ": no such file");
	file_mapping file(fd, static_cast<size_t>(status.st_size));
	config.weights_bytes = static_cast<size_t>(status.st_size);
	config.device = "meta";
	config.is_lean = is_lean;
	config.weights = is_lean ? nullptr : file.data();
	config.weights_fd = is_lean ? fd : -1;
	config.n_inputs = 1;
	config.inputs = &input;
	if (guard(&err, ENGINE_E_MODEL, ENGINE_E_FAILED,
	          [&] { return load_early(&engine, &err); }) != 0 ||
	    commit(&engine, &err) != 0) {
		fail_test(name + ": " + err.text);
	} else {
		stray strays(meta);

		strays.look(engine.module);
		if (!strays.found.empty())
			fail_test(name + ": " + strays.found);
		if (strays.n_seen == 0 || (has_constants && strays.n_constants == 0))
			fail_test(name + ": there is nothing to be seen");
	}
	(void)::close(fd);
}

void test_empty()
{
	const c10::Device meta(c10::kMeta);
	const at::Tensor none = torch::ones({ 0, 3 });
	const at::Tensor some = torch::ones({ 2 });
	c10::List<at::Tensor> list({ some, none });
	c10::Dict<std::string, at::Tensor> dict;
	const c10::IValue tuple(std::make_tuple(none, int64_t(7), some));

	dict.insert("none", none);
	if (bring_empty(none, meta).toTensor().device() != meta ||
	    bring_empty(some, meta).toTensor().device() != some.device())
		fail_test("a tensor");
	(void)bring_empty(list, meta);
	if (list.get(0).device() == meta || list.get(1).device() != meta)
		fail_test("a list");
	(void)bring_empty(dict, meta);
	if (dict.at("none").device() != meta)
		fail_test("a dict");
	c10::IValue brought = bring_empty(tuple, meta);
	if (brought.toTupleRef().elements()[0].toTensor().device() != meta ||
	    brought.toTupleRef().elements()[1].toInt() != 7)
		fail_test("a tuple");
}

/* A caller that asks libtorch for the profiler must find one, and one that is off. */
void test_watch()
{
	memory_watch watch(c10::Device(c10::kMeta), 0);
	auto *state = torch::profiler::impl::ProfilerStateBase::get(false);

	if (!dynamic_cast<torch::profiler::impl::ProfilerStateBase *>(
		    static_cast<c10::MemoryReportingInfoBase *>(state)))
		fail_test("what counts a device's memory is no profiler");
	else if (torch::profiler::impl::profilerEnabled() ||
	         !state->memoryProfilingEnabled())
		fail_test("a profiler that is on");
	c10::reportMemoryUsageToProfiler(nullptr, 4096, 4096, 4096,
	                                 c10::Device(c10::kMeta));
	if (torch_account_peak_bytes() != 4096)
		fail_test("memory that nobody counts");
}

} /* namespace */

int main(int argc, char **argv)
{
	if (argc != 3) {
		(void)std::fprintf(stderr, "usage: test_torch_device MODELS BUNDLED\n");
		return 2;
	}
	at::set_num_threads(1);
	test_empty();
	test_watch();
	for (bool is_lean : { false, true }) {
		test_commit(argv[2], is_lean, false);
		for (const char *name :
		     { "constant", "buffer", "tied", "traced", "empty", "empty-frozen" })
			test_commit(std::string(argv[1]) + "/" + name + ".pt", is_lean,
			            std::string("constant traced empty-frozen")
			                                    .find(name) !=
			                            std::string::npos &&
			                    std::strcmp(name, "empty"));
	}
	return n_failed ? 1 : 0;
}
