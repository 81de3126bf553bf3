/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies of model files that loaders share. store_take() makes a copy, which is in
 * store->filling while one loader fills it. store_copy_publish() (main memory) or
 * store_copy_place() (GPU) moves it to store->copies, where other loaders find it.
 * References are counted: the last one closes the descriptors, and the memory goes with
 * them. A copy that is abandoned or spoilt leaves its list and lives on for those who
 * hold it. Loaders are not trusted: seals, sizes and kinds of descriptors are checked
 * before a copy counts as full.
 */

#include "supervisor/weights/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/file.h"

#define STORE_SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)
#define STORE_ALL_SEALS  (STORE_SIZE_SEALS | F_SEAL_WRITE | F_SEAL_SEAL)

/* The driver may round the last chunk up beyond the file by this much. */
#define STORE_ROUNDING_MAX (UINT64_C(1) << 30)
/* A copy that has not grown for this long may never be full: its loader hangs, or spends
 * long on building what it has filled. */
#define STORE_PATIENCE_NS (20 * CLOCK_NS_PER_SEC)

void store_init(struct store *store, struct device *host)
{
	*store = (struct store){ .host = host };
	LIST_INIT(&store->copies);
	LIST_INIT(&store->filling);
}

void store_listen(struct store *store, void (*on_change)(void *context), void *context)
{
	store->on_change = on_change;
	store->context = context;
}

void store_fini(struct store *store)
{
	assert(LIST_EMPTY(&store->copies) && LIST_EMPTY(&store->filling));
	(void)store;
}

static void store_say_change(const struct store *store)
{
	if (store->on_change)
		store->on_change(store->context);
}

struct store_copy *store_find(const struct store *store, const struct device *device,
                              const struct stat *file)
{
	struct store_copy *copy;

	LIST_FOREACH (copy, &store->copies, link)
		if (copy->device == device && file_is_same(&copy->file, file))
			return copy;
	return NULL;
}

void store_on_file_touched(struct store *store, const struct stat *before,
                           const struct stat *after)
{
	struct store_copies *const lists[] = { &store->copies, &store->filling };
	struct store_copy *copy;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		LIST_FOREACH (copy, lists[i], link)
			if (file_is_same(&copy->file, before))
				copy->file = *after;
}

static bool store_copy_stalls(struct store_copy *copy)
{
	uint64_t now_ns = clock_now_ns();
	struct stat now;

	if (fstat(copy->fd, &now) == 0 && now.st_blocks != copy->seen_blocks) {
		copy->seen_blocks = now.st_blocks;
		copy->grown_ns = now_ns;
	}
	return !copy->is_late && now_ns - copy->grown_ns > STORE_PATIENCE_NS;
}

bool store_is_coming(struct store *store, const struct device *device,
                     const struct stat *file, bool is_urgent)
{
	struct store_copy *copy;

	LIST_FOREACH (copy, &store->filling, link) {
		if (copy->device != device || !file_is_same(&copy->file, file))
			continue;
		if (!is_urgent || (copy->is_urgent && !store_copy_stalls(copy)))
			return true;
	}
	return false;
}

/* The size of the memfd is sealed from the start: a mapping of it never ends early. */
static int store_open(off_t bytes)
{
	int fd = memfd_create("moult-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, bytes) < 0 || fcntl(fd, F_ADD_SEALS, STORE_SIZE_SEALS) < 0) {
		r = -errno;
		close_fd(&fd);
		return r;
	}
	return fd;
}

int store_take(struct store *store, const struct store_wish *wish,
               struct store_copy **ret_copy, struct err *err)
{
	struct store_copy *copy = store_find(store, wish->device, wish->file);
	bool is_placed = wish->device != store->host;
	int fd = -1;

	if (copy) {
		*ret_copy = store_copy_ref(copy);
		return 0;
	}
	if (!is_placed)
		fd = store_open(wish->file->st_size);
	copy = fd < 0 && !is_placed ? NULL : calloc(1, sizeof(*copy));
	if (!copy) {
		int r = fd < 0 && !is_placed ? fd : -ENOMEM;

		close_fd(&fd);
		return err_set(err, r, "no shared memory for the model: %s",
		               strerror(-r));
	}
	*copy = (struct store_copy){
		.store = store,
		.device = wish->device,
		.refs = 1,
		.fd = fd,
		.is_urgent = wish->is_urgent,
		.is_late = wish->is_late,
		.is_listed = true,
		.grown_ns = clock_now_ns(),
		.file = *wish->file,
	};
	LIST_INSERT_HEAD(&store->filling, copy, link);
	device_add_memory(wish->device, &copy->use, fd, wish->claim_bytes);
	*ret_copy = copy;
	return 0;
}

struct store_copy *store_copy_ref(struct store_copy *copy)
{
	if (copy)
		copy->refs++;
	return copy;
}

void store_copy_unref(struct store_copy *copy)
{
	bool was_coming;

	if (!copy || --copy->refs > 0)
		return;
	was_coming = copy->is_listed && !copy->is_full;
	if (copy->is_listed)
		LIST_REMOVE(copy, link);
	device_remove(&copy->use);
	close_fd(&copy->fd);
	for (size_t i = 0; i < copy->n_fds; i++)
		close_fd(&copy->fds[i]);
	store_copy_unref(copy->scrap);
	if (was_coming)
		store_say_change(copy->store);
	free(copy);
}

void store_copy_count(struct store_copy *copy, bool is_serving)
{
	if (is_serving)
		copy->n_serving++;
	else
		copy->n_serving--;
}

void store_copy_abandon(struct store_copy *copy)
{
	if (!copy || copy->is_full || !copy->is_listed)
		return;
	copy->is_listed = false;
	LIST_REMOVE(copy, link);
	store_say_change(copy->store);
}

uint64_t store_copy_bytes(const struct store_copy *copy)
{
	return copy ? (uint64_t)copy->file.st_size : 0;
}

bool store_copy_is_placed(const struct store_copy *copy)
{
	return copy && copy->device != copy->store->host;
}

void store_copy_spoil(struct store_copy *copy)
{
	if (copy->is_full && copy->is_listed) {
		LIST_REMOVE(copy, link);
		copy->is_listed = false;
	}
}

static void store_copy_fill(struct store_copy *copy, const char *sha256)
{
	(void)snprintf(copy->sha256, sizeof(copy->sha256), "%s", sha256);
	copy->is_full = true;
	device_claim(&copy->use, 0);
	if (copy->is_listed)
		LIST_REMOVE(copy, link);
	copy->is_listed = true;
	/* An urgent loader may have filled a second copy: later loaders take either. */
	LIST_INSERT_HEAD(&copy->store->copies, copy, link);
	store_say_change(copy->store);
}

int store_copy_publish(struct store_copy *copy, const char *sha256)
{
	struct stat now;
	int seals;

	if (copy->is_full)
		return 0;
	/* Further seals do no harm: with vm.memfd_noexec the kernel adds F_SEAL_EXEC. */
	seals = fcntl(copy->fd, F_GET_SEALS);
	if (seals < 0 || (seals & STORE_ALL_SEALS) != STORE_ALL_SEALS ||
	    fstat(copy->fd, &now) < 0 || now.st_size != copy->file.st_size ||
	    strlen(sha256) != sizeof(copy->sha256) - 1)
		return -EBADMSG;
	store_copy_fill(copy, sha256);
	return 0;
}

void store_copy_give(struct store_copy *copy, struct store_copy **scrap)
{
	if (!store_copy_is_placed(copy) || copy->is_full || copy->scrap || !*scrap ||
	    (*scrap)->device != copy->device || (*scrap)->refs > 1)
		return;
	copy->scrap = take_ptr(scrap);
	store_copy_spoil(copy->scrap);
}

/* Only the driver knows what the descriptors are. A socket could hold anything and is
 * refused. */
static bool store_is_chunk(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && !S_ISSOCK(status.st_mode) &&
	       !S_ISDIR(status.st_mode);
}

int store_copy_place(struct store_copy *copy, const struct store_chunks *chunks, int *fds,
                     size_t n_fds, const char *sha256)
{
	struct store_copy *scrap = copy->scrap;
	uint64_t bytes = store_copy_bytes(copy);
	size_t kept = (size_t)chunks->kept;

	if (chunks->kept > (scrap ? scrap->n_fds : 0) ||
	    (kept > 0 && chunks->chunk_bytes != scrap->chunks.chunk_bytes) ||
	    copy->is_full || kept + n_fds > PROTO_CHUNKS_MAX ||
	    chunks->chunk_bytes == 0 || chunks->mapped_bytes < bytes ||
	    chunks->mapped_bytes - bytes > STORE_ROUNDING_MAX ||
	    (chunks->mapped_bytes - 1) / chunks->chunk_bytes + 1 != kept + n_fds ||
	    strlen(chunks->canary) != sizeof(chunks->canary) - 1 ||
	    strlen(sha256) != sizeof(copy->sha256) - 1)
		return -EBADMSG;
	for (size_t i = 0; i < n_fds; i++)
		if (!store_is_chunk(fds[i]))
			return -EBADMSG;
	for (size_t i = 0; i < kept; i++)
		copy->fds[i] = take_fd(&scrap->fds[i]);
	for (size_t i = 0; i < n_fds; i++)
		copy->fds[kept + i] = take_fd(&fds[i]);
	copy->n_fds = kept + n_fds;
	copy->scrap = NULL;
	store_copy_unref(scrap);
	copy->chunks = *chunks;
	device_resize(&copy->use, chunks->mapped_bytes);
	store_copy_fill(copy, sha256);
	return 0;
}
