/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/figures/pulse.h"

#include "shared/clock.h"

#define PULSE_FIRST_BIT 10 /* 1024 ns */
/* Fewer answers than this prove nothing. */
#define PULSE_ANSWERS_MIN 50
/* Times below this one are noise, whatever their ratio. */
#define PULSE_FLOOR_NS (2 * CLOCK_NS_PER_MS)
/* Whatever the distribution, no more than one in ten waits so many times the average. */
#define PULSE_WAITS 10

static unsigned int pulse_slot(uint64_t ns)
{
	unsigned int bit;
	unsigned int slot;

	if (ns < (UINT64_C(1) << PULSE_FIRST_BIT))
		return 0;
	bit = 63 - (unsigned int)__builtin_clzll(ns);
	slot = (bit - PULSE_FIRST_BIT) * 4 + (unsigned int)((ns >> (bit - 2)) & 3);
	return slot < PULSE_SLOTS ? slot : PULSE_SLOTS - 1;
}

/* The upper end of a slot. */
static uint64_t pulse_slot_ns(unsigned int slot)
{
	unsigned int bit = slot / 4 + PULSE_FIRST_BIT;

	return (UINT64_C(5) + slot % 4) << (bit - 2);
}

void pulse_reset(struct pulse *pulse, uint64_t generation)
{
	*pulse = (struct pulse){ .generation = generation };
}

static struct pulse_bucket *pulse_bucket_of(struct pulse *pulse, uint64_t now_ns)
{
	struct pulse_bucket *bucket = &pulse->buckets[pulse->current];

	if (bucket->start_ns && now_ns - bucket->start_ns < PULSE_BUCKET_NS)
		return bucket;
	if (bucket->start_ns)
		pulse->current = (pulse->current + 1) % PULSE_BUCKETS;
	bucket = &pulse->buckets[pulse->current];
	*bucket = (struct pulse_bucket){ .start_ns = now_ns };
	return bucket;
}

void pulse_note(struct pulse *pulse, uint64_t generation, enum pulse_kind kind,
                uint64_t compute_ns, uint64_t now_ns)
{
	struct pulse_bucket *bucket;

	if (generation != pulse->generation || kind == PULSE_NOTHING)
		return;
	bucket = pulse_bucket_of(pulse, now_ns);
	bucket->answers++;
	if (kind == PULSE_FAULT)
		bucket->errors++;
	else
		bucket->slots[pulse_slot(compute_ns)]++;
}

struct pulse_summary pulse_sum(const struct pulse *pulse, uint64_t now_ns)
{
	struct pulse_summary summary = { 0 };
	uint64_t slots[PULSE_SLOTS] = { 0 };
	uint64_t left;

	for (unsigned int i = 0; i < PULSE_BUCKETS; i++) {
		const struct pulse_bucket *bucket = &pulse->buckets[i];

		if (bucket->start_ns == 0 ||
		    now_ns - bucket->start_ns > PULSE_BUCKETS * PULSE_BUCKET_NS)
			continue;
		summary.answers += bucket->answers;
		summary.errors += bucket->errors;
		for (unsigned int slot = 0; slot < PULSE_SLOTS; slot++)
			slots[slot] += bucket->slots[slot];
	}
	left = (summary.answers - summary.errors) * 9 / 10;
	for (unsigned int slot = 0; left > 0 && slot < PULSE_SLOTS; slot++) {
		summary.slow_ns = pulse_slot_ns(slot);
		left -= slots[slot] < left ? slots[slot] : left;
	}
	return summary;
}

struct pulse_summary pulse_recent(const struct pulse *pulse, uint64_t within_ns,
                                  uint64_t now_ns)
{
	struct pulse_summary summary = { 0 };

	for (unsigned int i = 0; i < PULSE_BUCKETS; i++) {
		const struct pulse_bucket *bucket = &pulse->buckets[i];

		if (bucket->start_ns == 0 || now_ns - bucket->start_ns > within_ns)
			continue;
		summary.answers += bucket->answers;
		summary.errors += bucket->errors;
	}
	return summary;
}

double pulse_error_percent(const struct pulse_summary *summary)
{
	return summary->answers
	               ? 100.0 * (double)summary->errors / (double)summary->answers
	               : 0;
}

bool pulse_is_worse(const struct pulse_summary *before, const struct pulse_summary *now,
                    const struct pulse_policy *policy, struct err *why)
{
	double errors = pulse_error_percent(now);
	double errors_before = pulse_error_percent(before);

	if (now->answers < PULSE_ANSWERS_MIN)
		return false;
	if (policy->errors_percent && errors > errors_before + policy->errors_percent) {
		(void)err_set(
			why, 0,
			"%.1f %% of its %llu answers are errors, %.1f %% were before",
			errors, (unsigned long long)now->answers, errors_before);
		return true;
	}
	if (!policy->latency_percent || before->answers < PULSE_ANSWERS_MIN ||
	    now->slow_ns < PULSE_FLOOR_NS ||
	    now->slow_ns < before->slow_ns + PULSE_WAITS * policy->waited_ns ||
	    (double)now->slow_ns * 100.0 <=
	            (double)before->slow_ns * policy->latency_percent)
		return false;
	(void)err_set(why, 0,
	              "nine in ten answers are computed within %.1f ms, and took %.1f ms "
	              "before",
	              clock_ns_to_ms(now->slow_ns), clock_ns_to_ms(before->slow_ns));
	return true;
}
