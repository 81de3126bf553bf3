/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A GPU as a device, and the proof that a dead loader's memory on it is back.
 *
 * The driver's figure for one process is a hint: some containers hide it, and whether
 * it includes shared memory is not documented. So the growth of the card's use while a
 * loader places its weights (before_bytes, placed_bytes) stands beside it, and
 * mapped_bytes and made_bytes say what of it is shared. The baseline is what others
 * than loaders held when this one came. Its memory is back once the driver lists the
 * process no more and others hold no more than the baseline again (device_reclaim()).
 * Figures of a driver that has stopped answering prove nothing.
 */

#include <inttypes.h>
#include <stdio.h>

#include "shared/clock.h"
#include "shared/saturate.h"
#include "supervisor/devices/device.h"
#include "supervisor/process/proc.h"

/* Most processes that a sentence names. */
#define DEVICE_NVML_NAMED_MAX 4
/* Generations of processes below a loader that are looked through. */
#define DEVICE_NVML_DEPTH_MAX 32
/* Older figures count as unknown; a driver that answers is asked every second. */
#define DEVICE_NVML_STALE_NS (3 * CLOCK_NS_PER_SEC)

/* The card in a report at most DEVICE_NVML_STALE_NS old, or NULL. */
static const struct nvml_card *device_nvml_card(const struct device *device)
{
	return device->nvml ? nvml_card(device->nvml, device->uuid,
	                                clock_now_ns() - DEVICE_NVML_STALE_NS)
	                    : NULL;
}

static bool device_nvml_refresh(struct device *device)
{
	return nvml_refresh(device->nvml);
}

bool device_is_asked(const struct device *device, uint64_t since_ns)
{
	const struct nvml *nvml = device->nvml;

	return nvml && nvml->state == NVML_UP &&
	       (since_ns == 0 || nvml->as_of_ns < since_ns);
}

/* True: @pid is the process of @use, or one below it that counts as well. */
static bool device_nvml_belongs(const struct device_use *use, pid_t pid)
{
	struct proc proc = { .parent = pid };

	if (!use->is_tree)
		return pid == use->pid;
	for (int i = 0; i < DEVICE_NVML_DEPTH_MAX && proc.parent > 1; i++) {
		if (proc.parent == use->pid)
			return true;
		if (!proc_read(proc.parent, &proc))
			break;
	}
	return false;
}

/* Sums up what the driver charges @use for, as nvml_card_process() does for one process. False:
 * it lists none of its processes. */
static bool device_nvml_sum(const struct device_use *use, const struct nvml_card *card,
                            uint64_t *ret_bytes)
{
	bool is_listed = false;

	if (!use->is_tree)
		return nvml_card_process(card, use->pid, ret_bytes);
	*ret_bytes = 0;
	for (unsigned int i = 0; i < card->n_processes; i++) {
		if (!device_nvml_belongs(use, card->processes[i].pid))
			continue;
		is_listed = true;
		if (card->processes[i].bytes != NVML_UNKNOWN)
			*ret_bytes += card->processes[i].bytes;
	}
	return is_listed;
}

static uint64_t device_nvml_gap(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* What of the shared weights is in the @bytes that the driver charges @use for, all of
 * which are there. No document says it; the growth of the card's use when the loader came
 * tells. */
static enum device_charge device_nvml_charge(const struct device_use *use, uint64_t bytes)
{
	uint64_t if_all = saturate_minus(bytes, use->mapped_bytes);
	uint64_t if_made = saturate_minus(bytes, use->made_bytes);

	if (bytes < use->made_bytes)
		return DEVICE_CHARGE_NONE;
	if (bytes < use->mapped_bytes)
		return DEVICE_CHARGE_MADE;
	if (use->mapped_bytes == 0 || !use->placed_bytes)
		return DEVICE_CHARGE_ALL;
	return device_nvml_gap(if_made, use->placed_bytes) <
	                       device_nvml_gap(if_all, use->placed_bytes)
	               ? DEVICE_CHARGE_MADE
	               : DEVICE_CHARGE_ALL;
}

/* The process's own part of the @bytes that the driver charges it for. */
static uint64_t device_nvml_own(const struct device_use *use, uint64_t bytes)
{
	switch (use->charge ? use->charge : device_nvml_charge(use, bytes)) {
	case DEVICE_CHARGE_ALL:
		return saturate_minus(bytes, use->mapped_bytes);
	case DEVICE_CHARGE_MADE:
		return saturate_minus(bytes, use->made_bytes);
	case DEVICE_CHARGE_NONE:
	case DEVICE_CHARGE_UNKNOWN:
		break;
	}
	return bytes;
}

/* Some containers hide the charge of a process: the driver says 0, or lists no such
 * process. */
static uint64_t device_nvml_held(const struct device_use *use)
{
	const struct nvml_card *card = device_nvml_card(use->device);
	uint64_t bytes = 0;

	if (use->pid == 0)
		return use->memory_bytes;
	if (!card)
		return use->now_bytes;
	/* An older report has an unknown part of the mapped weights. */
	if (use->device->nvml->as_of_ns < use->mapped_ns)
		return use->placed_bytes;
	if (!device_nvml_sum(use, card, &bytes) || bytes == NVML_UNKNOWN)
		bytes = 0;
	return bytes ? device_nvml_own(use, bytes) : use->placed_bytes;
}

/* Learns how the driver charges @use from the first report while it serves: a loader that
 * ends has a part of the weights, which would pass for memory of its own. */
static void device_nvml_learn_charge(struct device_use *use)
{
	const struct nvml_card *card = device_nvml_card(use->device);
	uint64_t bytes = 0;

	if (use->is_serving && !use->charge && card &&
	    use->device->nvml->as_of_ns >= use->mapped_ns &&
	    device_nvml_sum(use, card, &bytes) && bytes && bytes != NVML_UNKNOWN)
		use->charge = device_nvml_charge(use, bytes);
}

static uint64_t device_nvml_look(struct device_use *use)
{
	uint64_t bytes;

	device_nvml_learn_charge(use);
	bytes = device_nvml_held(use);

	/* A report shows the weights now, and the claim no longer stands for them. */
	if (use->unseen_ns && use->device->nvml->as_of_ns >= use->unseen_ns)
		device_claim(use, 0);
	return bytes;
}

static uint64_t device_nvml_available(struct device *device)
{
	const struct nvml_card *card = device_nvml_card(device);

	return card ? card->free_bytes : UINT64_MAX;
}

/* Bytes in use by others than our loaders; @except counts as one of the others. */
static uint64_t device_nvml_foreign(const struct device *device,
                                    const struct nvml_card *card,
                                    const struct device_use *except)
{
	const struct device_use *use;
	uint64_t ours_bytes = 0;

	LIST_FOREACH (use, &device->uses, link)
		if (use != except)
			ours_bytes += device_nvml_held(use);
	return saturate_minus(card->used_bytes, ours_bytes);
}

/* The card as it is now, for a figure that later ones are compared with; NULL: not
 * known. */
static const struct nvml_card *device_nvml_now(struct device *device)
{
	return device && device->nvml && device_measure(device) ? device_nvml_card(device)
	                                                        : NULL;
}

/* A dead loader spoils a baseline: nobody knows how much of its memory is back
 * already. */
static bool device_nvml_has_dead(const struct device *device)
{
	const struct device_use *use;

	LIST_FOREACH (use, &device->uses, link)
		if (use->is_dead)
			return true;
	return false;
}

/* Takes the baseline of @use as early as one can be had. */
static void device_nvml_take_baseline(struct device_use *use,
                                      const struct nvml_card *card,
                                      const struct device_use *except)
{
	if (!card || use->has_baseline || device_nvml_has_dead(use->device))
		return;
	use->baseline_bytes = device_nvml_foreign(use->device, card, except);
	use->has_baseline = true;
}

static void device_nvml_begin(struct device_use *use)
{
	const struct nvml_card *card = device_nvml_now(use->device);

	use->before_bytes = card ? card->used_bytes : 0;
	device_nvml_take_baseline(use, card, NULL);
}

void device_init_nvml(struct device *device, const char *name, struct nvml *nvml)
{
	static const struct device_ops ops = {
		.refresh = device_nvml_refresh,
		.begin = device_nvml_begin,
		.look = device_nvml_look,
		.available = device_nvml_available,
	};

	device_begin(device, name, &ops);
	device->nvml = nvml;
}

void device_note_given(struct device_use *use, uint64_t bytes)
{
	use->mapped_bytes = bytes;
}

void device_note_ahead(struct device_use *use, uint64_t bytes)
{
	const struct nvml_card *card;
	uint64_t taken_bytes = 0;

	if (!use->device || !use->device->nvml)
		return;
	nvml_note_change(use->device->nvml);
	card = device_nvml_now(use->device);
	if (card && (!nvml_card_process(card, use->pid, &taken_bytes) ||
	             taken_bytes == 0 || taken_bytes == NVML_UNKNOWN))
		taken_bytes =
			bytes && use->before_bytes
				? saturate_minus(card->used_bytes, use->before_bytes)
				: 0;
	/* Memory that others took meanwhile is not its own: the claim is the limit. */
	if (taken_bytes > use->claim_bytes)
		taken_bytes = use->claim_bytes;
	use->ahead_bytes = bytes;
	use->placed_bytes = taken_bytes > bytes ? taken_bytes : bytes;
}

void device_note_placing(struct device_use *use)
{
	const struct nvml_card *card = device_nvml_now(use->device);

	use->before_bytes =
		card ? saturate_minus(card->used_bytes, use->placed_bytes) : 0;
	/* The loader holds nothing yet: any report since it came is as good as one of
	 * now. */
	if (!card && use->device && use->device->nvml && !use->placed_bytes)
		card = nvml_card(use->device->nvml, use->device->uuid, use->added_ns);
	device_nvml_take_baseline(use, card, use->placed_bytes ? NULL : use);
	if (use->device && use->device->nvml)
		nvml_note_change(use->device->nvml);
}

void device_note_mapped(struct device_use *use, uint64_t bytes, uint64_t made_bytes)
{
	use->mapped_bytes = bytes;
	use->made_bytes = made_bytes;
	use->mapped_ns = clock_now_ns();
	/* Chunks that the loader was offered and does not use go now, and may take
	 * their time: they count as gone before, since too low a before_bytes does no
	 * harm. */
	use->before_bytes = saturate_minus(use->before_bytes, bytes - made_bytes);
	use->placed_bytes = saturate_minus(use->placed_bytes, use->ahead_bytes);
}

void device_note_placed(struct device_use *use)
{
	const struct nvml_card *card;
	uint64_t least_bytes = use->placed_bytes;
	uint64_t bytes = 0;

	if (!use->device)
		return;
	card = device_nvml_now(use->device);
	/* The claim stands for the weights until a report has them, if there is to be
	 * one. */
	if (!card && use->device->nvml && use->device->nvml->state == NVML_UP)
		device_claim_until_seen(use);
	else
		device_claim(use, 0);
	if (card && use->before_bytes && card->used_bytes > use->before_bytes)
		use->placed_bytes = saturate_minus(card->used_bytes - use->before_bytes,
		                                   use->mapped_bytes);
	if (use->placed_bytes < least_bytes)
		use->placed_bytes = least_bytes;
	/* Where the driver tells what the loader holds, the baseline can leave that
	 * out. */
	if (card && device_nvml_sum(use, card, &bytes) && bytes > 0 &&
	    bytes != NVML_UNKNOWN)
		device_nvml_take_baseline(use, card, NULL);
	/* The peak from here on is that of serving. */
	device_serve(use, device_nvml_held(use));
}

struct device_figures device_figures(const struct device *device)
{
	const struct nvml_card *card = device_nvml_card(device);
	const struct nvml_errors *errors =
		device->nvml ? nvml_errors(device->nvml, device->uuid) : NULL;
	struct device_figures figures = { 0 };

	if (errors) {
		figures.xids = errors->count;
		figures.last_xid = errors->last_xid;
	}
	if (!card)
		return figures;
	figures.is_known = true;
	figures.total_bytes = card->total_bytes;
	figures.used_bytes = card->used_bytes;
	figures.free_bytes = card->free_bytes;
	figures.age_ms = (clock_now_ns() - device->nvml->as_of_ns) / CLOCK_NS_PER_MS;
	return figures;
}

bool device_is_exclusive(const struct device *device)
{
	const struct nvml_card *card = device_nvml_card(device);

	return card && card->is_exclusive;
}

bool device_is_prohibited(const struct device *device)
{
	const struct nvml_card *card = device_nvml_card(device);

	return card && card->is_prohibited;
}

unsigned int device_xid(const struct device *device, uint64_t since_ns)
{
	const struct nvml_errors *errors =
		device->nvml ? nvml_errors(device->nvml, device->uuid) : NULL;

	return errors && errors->last_ns >= since_ns ? errors->last_xid : 0;
}

enum device_reclaim device_reclaim(struct device_use *use, uint64_t reaped_ns)
{
	const struct device *device = use->device;
	const struct nvml_card *card;
	uint64_t bytes;

	if (!device || !device->nvml)
		return DEVICE_RECLAIM_DONE;
	use->is_dead = true;
	/* No report will show what a dead loader placed. */
	if (use->unseen_ns)
		device_claim(use, 0);
	nvml_note_change(device->nvml);
	if (!use->has_baseline || device->nvml->state != NVML_UP)
		return DEVICE_RECLAIM_UNKNOWN;
	nvml_ask(device->nvml);
	card = nvml_card(device->nvml, device->uuid, reaped_ns);
	if (!card)
		return DEVICE_RECLAIM_WAITING;
	if (nvml_card_process(card, use->pid, &bytes))
		return DEVICE_RECLAIM_LISTED;
	if (device_nvml_foreign(device, card, use) >
	    use->baseline_bytes + DEVICE_TOLERANCE_BYTES)
		return DEVICE_RECLAIM_HELD;
	return DEVICE_RECLAIM_DONE;
}

static bool device_nvml_is_ours(const struct device *device, pid_t pid)
{
	const struct device_use *use;

	LIST_FOREACH (use, &device->uses, link)
		if (device_nvml_belongs(use, pid))
			return true;
	return false;
}

/* Prints "process 7 holds 12.0 MiB, ...": the processes that are no living loader of
 * ours. */
static void device_nvml_name_holders(const struct device_use *use,
                                     const struct nvml_card *card, char *text,
                                     size_t size)
{
	unsigned int n_named = 0;
	size_t used = 0;

	text[0] = '\0';
	for (unsigned int i = 0;
	     i < card->n_processes && n_named < DEVICE_NVML_NAMED_MAX && used < size;
	     i++) {
		const struct nvml_process *process = &card->processes[i];
		int n;

		if (process->pid != use->pid &&
		    device_nvml_is_ours(use->device, process->pid))
			continue;
		n = process->bytes == NVML_UNKNOWN
		            ? snprintf(text + used, size - used,
		                       "%sprocess %d holds an unknown amount",
		                       n_named ? ", " : "", process->pid)
		            : snprintf(text + used, size - used,
		                       "%sprocess %d holds %.1f MiB", n_named ? ", " : "",
		                       process->pid, (double)process->bytes / 1048576.0);
		used += n > 0 ? (size_t)n : 0;
		n_named++;
	}
	if (n_named == 0)
		(void)snprintf(text, size, "the driver names no process that holds it");
}

void device_explain_residue(const struct device_use *use, uint64_t *ret_bytes,
                            struct err *ret_why)
{
	const struct nvml_card *card = device_nvml_card(use->device);
	char holders[240];
	uint64_t foreign;

	*ret_bytes = 0;
	if (!card) {
		(void)err_set(ret_why, 0,
		              "%s: the driver does not say whether the memory of process "
		              "%d is back",
		              use->device->name, (int)use->pid);
		return;
	}
	foreign = device_nvml_foreign(use->device, card, use);
	if (foreign > use->baseline_bytes)
		*ret_bytes = foreign - use->baseline_bytes;
	device_nvml_name_holders(use, card, holders, sizeof(holders));
	(void)err_set(ret_why, 0,
	              "%s: %.1f MiB are not back from process %d, which is gone: %s",
	              use->device->name, (double)*ret_bytes / 1048576.0, (int)use->pid,
	              holders);
}
