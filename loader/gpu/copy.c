/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A file into a GPU's memory. Each thread (gpu_copy_thread(), the caller among them) takes the
 * next piece from a common counter, reads it into a buffer of its ring and sends it off; an
 * event per buffer tells when the card has read it. Without pinned memory (confidential
 * computing, a limit) a thread has one plain buffer and copies synchronously. The first
 * failure, or is_cut(), ends all threads (gpu_copy_end()).
 */
#include "loader/gpu/copy.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Buffers of a thread: it reads into one while the card copies the other. */
#define GPU_COPY_RING        2
#define GPU_COPY_PIECE_BYTES ((size_t)8 << 20)
/* More threads do not make the link to the card faster. */
#define GPU_COPY_THREADS_MAX 8

/* Shared by all threads. */
struct gpu_copy_work {
	const struct gpu_copy *copy;
	_Atomic size_t next; /* the number of the next piece */
	_Atomic bool is_over;
	/* The outcome of the first thread that ended early. */
	pthread_mutex_t lock;
	int r;
	int code; /* of the driver */
};

/* Each thread's own. */
struct gpu_copy_ring {
	const struct cuda_library *cuda;
	void *buffers[GPU_COPY_RING]; /* pinned; NULL: plain is used */
	struct cuda_event *events[GPU_COPY_RING];
	struct cuda_stream *stream;
	unsigned char *plain; /* the only buffer where nothing can be pinned */
};

static void gpu_copy_ring_fini(struct gpu_copy_ring *ring)
{
	for (size_t i = 0; i < GPU_COPY_RING; i++) {
		if (ring->events[i])
			(void)ring->cuda->event_free(ring->events[i]);
		if (ring->buffers[i])
			(void)ring->cuda->free_host(ring->buffers[i]);
	}
	if (ring->stream)
		(void)ring->cuda->stream_free(ring->stream);
	free(ring->plain);
	*ring = (struct gpu_copy_ring){ .cuda = ring->cuda };
}

static bool gpu_copy_ring_pin(struct gpu_copy_ring *ring)
{
	if (ring->cuda->stream_new(&ring->stream, CUDA_STREAM_ALONE) !=
	    CUDA_SUCCESS_CODE) {
		ring->stream = NULL;
		return false;
	}
	for (size_t i = 0; i < GPU_COPY_RING; i++) {
		/* CUDA_EVENT_BLOCKING: the driver would spin on a core that others need. */
		if (ring->cuda->event_new(&ring->events[i],
		                          CUDA_EVENT_NO_TIMING | CUDA_EVENT_BLOCKING) !=
		    CUDA_SUCCESS_CODE) {
			ring->events[i] = NULL;
			return false;
		}
		if (ring->cuda->allocate_host(&ring->buffers[i], GPU_COPY_PIECE_BYTES,
		                              0) != CUDA_SUCCESS_CODE) {
			ring->buffers[i] = NULL;
			return false;
		}
	}
	return true;
}

static int gpu_copy_ring_init(struct gpu_copy_ring *ring, const struct cuda_library *cuda)
{
	*ring = (struct gpu_copy_ring){ .cuda = cuda };
	if (gpu_copy_ring_pin(ring))
		return 0;
	gpu_copy_ring_fini(ring);
	ring->plain = malloc(GPU_COPY_PIECE_BYTES);
	return ring->plain ? 0 : -ENOMEM;
}

/* Waits until the card has read the former content of the buffer for @turn. */
static int gpu_copy_ring_take(struct gpu_copy_ring *ring, size_t turn, void **ret_buffer)
{
	size_t slot = turn % GPU_COPY_RING;

	*ret_buffer = ring->plain ? ring->plain : ring->buffers[slot];
	if (ring->plain || turn < GPU_COPY_RING)
		return CUDA_SUCCESS_CODE;
	return ring->cuda->event_wait(ring->events[slot]);
}

static int gpu_copy_ring_send(struct gpu_copy_ring *ring, size_t turn, uint64_t to,
                              size_t bytes)
{
	size_t slot = turn % GPU_COPY_RING;
	int code;

	if (ring->plain)
		return ring->cuda->to_device(to, ring->plain, bytes);
	code = ring->cuda->to_device_async(to, ring->buffers[slot], bytes, ring->stream);
	return code == CUDA_SUCCESS_CODE
	               ? ring->cuda->event_record(ring->events[slot], ring->stream)
	               : code;
}

/* Notes a failure, if any; the first one ends all threads. */
static void gpu_copy_end(struct gpu_copy_work *work, int r, int code)
{
	if (r == 0 && code == CUDA_SUCCESS_CODE)
		return;
	(void)pthread_mutex_lock(&work->lock);
	if (work->r == 0) {
		work->r = r ? r : GPU_COPY_E_DRIVER;
		work->code = code;
	}
	(void)pthread_mutex_unlock(&work->lock);
	atomic_store(&work->is_over, true);
}

static void gpu_copy_pieces(struct gpu_copy_work *work, struct gpu_copy_ring *ring)
{
	const struct gpu_copy *copy = work->copy;
	const struct gpu_copy_source *source = copy->source;

	for (size_t turn = 0; !atomic_load(&work->is_over); turn++) {
		size_t at = copy->from +
		            atomic_fetch_add(&work->next, 1) * GPU_COPY_PIECE_BYTES;
		size_t bytes = GPU_COPY_PIECE_BYTES;
		void *buffer = NULL;
		int code;
		int r = 0;

		if (at >= copy->to)
			return;
		if (bytes > copy->to - at)
			bytes = copy->to - at;
		if (source->is_cut && source->is_cut(source->context)) {
			gpu_copy_end(work, GPU_COPY_E_CUT, CUDA_SUCCESS_CODE);
			return;
		}
		code = gpu_copy_ring_take(ring, turn, &buffer);
		if (code == CUDA_SUCCESS_CODE)
			r = source->read(source->context, at, buffer, bytes);
		if (code == CUDA_SUCCESS_CODE && r == 0)
			code = gpu_copy_ring_send(ring, turn, copy->address + at, bytes);
		gpu_copy_end(work, r, code);
	}
}

static void *gpu_copy_thread(void *context)
{
	struct gpu_copy_work *work = context;
	const struct cuda_library *cuda = work->copy->cuda;
	struct gpu_copy_ring ring;
	int code = cuda->use_context(work->copy->context);

	if (code != CUDA_SUCCESS_CODE) {
		gpu_copy_end(work, 0, code);
		return NULL;
	}
	if (gpu_copy_ring_init(&ring, cuda) < 0) {
		gpu_copy_end(work, -ENOMEM, CUDA_SUCCESS_CODE);
		return NULL;
	}
	gpu_copy_pieces(work, &ring);
	/* Copies that are on their way still read the ring. */
	gpu_copy_end(work, 0, cuda->synchronize());
	gpu_copy_ring_fini(&ring);
	return NULL;
}

static unsigned int gpu_copy_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0
	               ? 1
	               : (unsigned int)CPU_COUNT(&set);
}

int gpu_copy_run(const struct gpu_copy *copy, unsigned int n_threads, int *ret_code)
{
	size_t n_pieces =
		(copy->to - copy->from + GPU_COPY_PIECE_BYTES - 1) / GPU_COPY_PIECE_BYTES;
	struct gpu_copy_work work = {
		.copy = copy,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	pthread_t threads[GPU_COPY_THREADS_MAX];
	unsigned int n_started = 0;

	if (n_threads == 0)
		n_threads = gpu_copy_processors();
	if (n_threads > GPU_COPY_THREADS_MAX)
		n_threads = GPU_COPY_THREADS_MAX;
	if (n_threads > n_pieces)
		n_threads = (unsigned int)n_pieces;
	while (n_started + 1 < n_threads &&
	       pthread_create(&threads[n_started], NULL, gpu_copy_thread, &work) == 0)
		n_started++;
	/* The calling thread copies, too, and alone when no other can be started. */
	if (n_pieces > 0)
		(void)gpu_copy_thread(&work);
	for (unsigned int i = 0; i < n_started; i++)
		(void)pthread_join(threads[i], NULL);
	*ret_code = work.code;
	return work.r;
}
