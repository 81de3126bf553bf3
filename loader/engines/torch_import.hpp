/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * For engine torch: the model file as libtorch reads it, and modules whose tensors lie in it,
 * be it in main memory or on a device.
 */

#include <caffe2/serialize/inline_container.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import_source.h>
#include <torch/csrc/jit/serialization/storage_context.h>
#include <torch/csrc/jit/serialization/unpickler.h>
#include <torch/script.h>

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "loader/engine.h"

extern "C" {
#include "shared/file.h"
}

namespace
{

/* Reads the model file: from memory, from a device, or (lean, private) from its descriptor, one
 * record at a time. */
class weights_adapter : public caffe2::serialize::ReadAdapterInterface
{
      public:
	explicit weights_adapter(const struct engine_config *config)
	    : data_(static_cast<const char *>(config->weights)),
	      bytes_(config->weights_bytes), fd_(config->weights_fd),
	      placed_(config->placed)
	{
	}

	weights_adapter(const char *data, size_t bytes) : data_(data), bytes_(bytes)
	{
	}

	size_t size() const override
	{
		return bytes_;
	}

	size_t read(uint64_t at, void *buffer, size_t n, const char *) const override
	{
		last_at_ = at;
		if (at >= bytes_)
			return 0;
		n = std::min(n, bytes_ - static_cast<size_t>(at));
		if (placed_)
			return placed_->read(placed_->context, at, buffer, n) < 0 ? 0 : n;
		/* A short file gives fewer bytes, and a broken one none; libtorch reports
		 * that. */
		if (!data_)
			return static_cast<size_t>(std::max<ssize_t>(file_read_at(fd_,
			                                                          buffer,
			                                                          n, at),
			                                             0));
		std::memcpy(buffer, data_ + at, n);
		return n;
	}

	/* The offset at which the last read began. */
	uint64_t last_at() const
	{
		return last_at_;
	}

      private:
	const char *data_;
	size_t bytes_;
	int fd_ = -1;
	const struct engine_placed *placed_ = nullptr;
	mutable uint64_t last_at_ = 0;
};

/* A mapping of the file: pages that nobody looks at cost nothing. */
class file_mapping
{
      public:
	file_mapping(int fd, size_t bytes)
	    : data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
	                 MAP_PRIVATE | MAP_NORESERVE, fd, 0)),
	      bytes_(bytes)
	{
		if (data_ == MAP_FAILED)
			throw std::bad_alloc();
	}

	~file_mapping()
	{
		(void)munmap(data_, bytes_);
	}

	file_mapping(const file_mapping &) = delete;
	file_mapping &operator=(const file_mapping &) = delete;

	char *data() const
	{
		return static_cast<char *>(data_);
	}

      private:
	void *data_;
	size_t bytes_;
};

/* Thrown when a module cannot lie in the mapping; the text says why. */
class unshareable : public std::runtime_error
{
	using std::runtime_error::runtime_error;
};

/* Returns @value with its empty tensors on @device: the unpickler asks nobody where those lie. */
inline c10::IValue bring_empty(c10::IValue value, const c10::Device &device)
{
	if (value.isTensor()) {
		const at::Tensor &tensor = value.toTensor();

		return tensor.defined() && tensor.numel() == 0 &&
		                       tensor.device() != device
		               ? c10::IValue(tensor.to(device))
		               : value;
	}
	if (value.isList()) {
		c10::impl::GenericList list = value.toList();
		bool has_numbers =
			list.elementType()->isSubtypeOf(*c10::NumberType::get());

		for (size_t i = 0; !has_numbers && i < list.size(); i++)
			list.set(i, bring_empty(list.get(i), device));
	} else if (value.isGenericDict()) {
		for (const auto &entry : value.toGenericDict())
			entry.setValue(bring_empty(entry.value(), device));
	} else if (value.isTuple()) {
		std::vector<c10::IValue> parts = value.toTupleRef().elements().vec();

		for (c10::IValue &part : parts)
			part = bring_empty(std::move(part), device);
		value.toTuple()->setElements(std::move(parts));
	}
	return value;
}

/*
 * Builds a module whose tensors lie in the file at @base of @device: nothing is read, copied or
 * allocated for them. Ties and strides are kept, because the pickle names storages and not
 * tensors.
 *
 * libtorch's own unpickler does the work and asks its caller where a storage lies. That
 * interface is exported and the same from 1.13 to 2.x, though not meant for everybody. Every
 * surprise is an exception; the caller then falls back on torch::jit::load().
 */
class shared_import
{
      public:
	shared_import(std::shared_ptr<weights_adapter> adapter, void *base,
	              c10::Device device)
	    : adapter_(std::move(adapter)), base_(static_cast<char *>(base)),
	      device_(device), reader_(adapter_),
	      unit_(std::make_shared<torch::jit::CompilationUnit>()),
	      importer_(
		      unit_, &constants_,
		      [this](const std::string &name) { return find_source(name); },
		      reader_.version())
	{
	}

	torch::jit::Module run()
	{
		check_archive();
		constants_ = unpickle("constants").toTupleRef().elements().vec();
		for (c10::IValue &constant : constants_)
			constant = bring_empty(std::move(constant), device_);
		c10::IValue root = unpickle("data");
		if (!root.isObject())
			throw unshareable("the archive holds no module");
		torch::jit::Module module(root.toObject());
		root = c10::IValue();
		storages_.reset();
		check_share(module);
		return module;
	}

      private:
	/* Notes a storage that lies in the file; deleted together with the storage. */
	struct tenant {
		size_t at;
		size_t bytes;
		std::shared_ptr<size_t> alive_bytes;
	};

	/* Refuses formats up to libtorch 1.4, and archives of the other byte order. */
	void check_archive()
	{
		if (reader_.hasRecord("model.json") ||
		    !reader_.hasRecord("constants.pkl"))
			throw unshareable("the archive is of an old format");
		if (!reader_.hasRecord("byteorder"))
			return;
		auto record = reader_.getRecord("byteorder");
		std::string order(static_cast<const char *>(std::get<0>(record).get()),
		                  std::get<1>(record));
		if (order != "little")
			throw unshareable(
				"the archive's byte order is not this machine's");
	}

	std::shared_ptr<torch::jit::Source> find_source(const std::string &qualifier)
	{
		std::string path = qualifier;

		std::replace(path.begin(), path.end(), '.', '/');
		path = "code/" + path + ".py";
		if (!reader_.hasRecord(path))
			return nullptr;
		auto record = reader_.getRecord(path);
		return std::make_shared<torch::jit::Source>(
			std::string(static_cast<const char *>(std::get<0>(record).get()),
		                    std::get<1>(record)),
			path, 1);
	}

	c10::IValue unpickle(const std::string &archive)
	{
		auto record = reader_.getRecord(archive + ".pkl");
		const char *text = static_cast<const char *>(std::get<0>(record).get());
		size_t bytes = std::get<1>(record);
		size_t done = 0;
		std::vector<std::string> keys;

		storages_ = std::make_shared<torch::jit::DeserializationStorageContext>();
		torch::jit::Unpickler unpickler(
			[&](char *buffer, size_t n) {
				n = std::min(n, bytes - done);
				std::memcpy(buffer, text + done, n);
				done += n;
				return n;
			},
			[this](const c10::QualifiedName &name) {
				return c10::StrongTypePtr(unit_,
			                                  importer_.loadType(name));
			},
			[this](const c10::StrongTypePtr &type, c10::IValue state) {
				return make_object(type, bring_empty(std::move(state),
			                                             device_));
			},
			[&](const std::string &key) {
				keys.push_back(key);
				return place(archive + "/" + key);
			},
			{}, true, torch::jit::Unpickler::defaultTypeParser, storages_);
		unpickler.set_version(reader_.version());
		c10::IValue value = unpickler.parse_ivalue();
		for (const std::string &key : keys)
			check_storage(archive + "/" + key, storages_->getStorage(key));
		return value;
	}

	static c10::intrusive_ptr<c10::ivalue::Object>
	make_object(const c10::StrongTypePtr &type, c10::IValue state)
	{
		auto of = type.type_->expect<c10::ClassType>();
		auto object = c10::ivalue::Object::create(type, of->numAttributes());

		if (of->findMethod("__setstate__")) {
			/* __setstate__ runs unoptimised: its values here are not those
			 * that it will serve with. */
			torch::jit::GraphOptimizerEnabledGuard as_written(false);

			of->getMethod("__setstate__")({ object, std::move(state) });
			return object;
		}
		auto slots = std::move(state).toGenericDict();
		for (size_t i = 0; i < of->numAttributes(); i++)
			object->setSlot(i, slots.at(of->getAttributeName(i)));
		return object;
	}

	/* Finds a record in the file. Asking for the record's offset makes the reader look at
	 * the local header, so the last read tells where that lies: u32 signature, u16
	 * version, u16 flags, u16 method (0: stored without compression). */
	at::DataPtr place(const std::string &name)
	{
		static const char stored[] = { 'P', 'K', 3, 4 };
		size_t at = reader_.getRecordOffset(name);
		uint64_t header = adapter_->last_at();
		char data[10];

		if (at % 64 != 0 || header + 30 > at || at > adapter_->size() ||
		    adapter_->read(header, data, sizeof(data), "") != sizeof(data) ||
		    std::memcmp(data, stored, sizeof(stored)) != 0 || data[8] != 0 ||
		    data[9] != 0)
			throw unshareable("the archive is compressed or not aligned");
		auto *tenant_of = new tenant{ at, 0, alive_bytes_ };
		tenants_[name] = tenant_of;
		return { base_ + at, tenant_of,
			 [](void *context) {
				 auto *gone = static_cast<tenant *>(context);

				 *gone->alive_bytes -= gone->bytes;
				 delete gone;
			 },
			 device_ };
	}

	/* Checks that a storage, whose size comes from the pickle, ends within the file. */
	void check_storage(const std::string &name, const c10::Storage &storage)
	{
		tenant *of = tenants_.at(name);

		if (storage.nbytes() > adapter_->size() - of->at)
			throw unshareable("a tensor reaches beyond the end of the file");
		of->bytes = storage.nbytes();
		*alive_bytes_ += storage.nbytes();
		all_bytes_ += storage.nbytes();
	}

	/* Refuses a module that packs its weights, now or at its first run: packed weights are
	 * private, and the mapping would be held for nothing. */
	void check_share(const torch::jit::Module &module) const
	{
		bool packs = *alive_bytes_ < all_bytes_ / 2;

		for (const c10::IValue &value : module.attributes(true))
			packs = packs || (value.isCustomClass() &&
			                  value.type()->str().find("quantized") !=
			                          std::string::npos);
		if (packs)
			throw unshareable("the model packs its weights, as quantised "
			                  "ones do");
	}

	std::shared_ptr<weights_adapter> adapter_;
	char *base_;
	c10::Device device_;
	caffe2::serialize::PyTorchStreamReader reader_;
	std::shared_ptr<torch::jit::CompilationUnit> unit_;
	std::vector<c10::IValue> constants_;
	torch::jit::SourceImporter importer_;
	std::shared_ptr<torch::jit::DeserializationStorageContext> storages_;
	std::map<std::string, tenant *> tenants_; /* valid as long as storages_ */
	std::shared_ptr<size_t> alive_bytes_ = std::make_shared<size_t>(0);
	size_t all_bytes_ = 0;
};

/*
 * For a module over read-only memory: gives every tensor that is no parameter memory of its own,
 * since inference may write there. Tensors in the storage of a parameter stay; tensors that
 * shared a storage share the copy.
 */
class own_buffers
{
      public:
	void run(const torch::jit::Module &module)
	{
		for (const torch::jit::Module &part : module.modules())
			note_parameters(part);
		for (const torch::jit::Module &part : module.modules())
			copy_others(part);
	}

      private:
	void note_parameters(const torch::jit::Module &part)
	{
		auto object = part._ivalue();

		for (size_t i = 0; i < object->type()->numAttributes(); i++)
			if (object->type()->is_parameter(i) &&
			    object->getSlot(i).isTensor())
				keep(object->getSlot(i).toTensor());
	}

	void keep(const at::Tensor &tensor)
	{
		if (tensor.defined() && tensor.has_storage())
			kept_.insert(tensor.storage().unsafeGetStorageImpl());
	}

	void copy_others(const torch::jit::Module &part)
	{
		auto object = part._ivalue();

		for (size_t i = 0; i < object->type()->numAttributes(); i++)
			if (!object->type()->is_parameter(i) &&
			    object->getSlot(i).isTensor())
				object->setSlot(i, copy(object->getSlot(i).toTensor()));
	}

	at::Tensor copy(const at::Tensor &tensor)
	{
		if (!tensor.defined() || !tensor.has_storage() ||
		    kept_.count(tensor.storage().unsafeGetStorageImpl()))
			return tensor;
		auto found = copies_.find(tensor.storage().unsafeGetStorageImpl());
		if (found == copies_.end()) {
			/* The whole storage is copied, as bytes. The source is kept, so
			 * that no other storage gets its address meanwhile. */
			at::Tensor bytes =
				at::empty({ 0 }, tensor.options().dtype(at::kByte))
					.set_(tensor.storage(), 0,
			                      { static_cast<int64_t>(tensor.storage()
			                                                     .nbytes()) },
			                      { 1 });
			found = copies_.emplace(tensor.storage().unsafeGetStorageImpl(),
			                        std::make_pair(bytes, bytes.clone()))
			                .first;
		}
		return at::empty({ 0 }, tensor.options())
		        .set_(found->second.second.storage(), tensor.storage_offset(),
		              tensor.sizes(), tensor.strides());
	}

	std::set<const c10::StorageImpl *> kept_;
	std::map<const c10::StorageImpl *, std::pair<at::Tensor, at::Tensor>> copies_;
};

} /* namespace */
