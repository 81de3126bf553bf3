/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/serve/backlog.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int backlog_init(struct backlog *backlog, uint32_t leases)
{
	*backlog = (struct backlog){
		.entries = calloc(leases, sizeof(*backlog->entries)),
		.mask = leases - 1,
	};
	return backlog->entries ? 0 : -ENOMEM;
}

void backlog_fini(struct backlog *backlog)
{
	free(backlog->entries);
	*backlog = (struct backlog){ 0 };
}

static struct proto_submit *backlog_at(struct backlog *backlog, uint32_t index)
{
	return &backlog->entries[(backlog->head + index) & backlog->mask];
}

void backlog_add(struct backlog *backlog, const struct proto_submit *submit)
{
	assert(backlog->n <= backlog->mask);
	*backlog_at(backlog, backlog->n++) = *submit;
}

bool backlog_take(struct backlog *backlog, struct proto_submit *ret_submit)
{
	if (backlog->n == 0)
		return false;
	*ret_submit = *backlog_at(backlog, 0);
	backlog->head++;
	backlog->n--;
	return true;
}

bool backlog_drop(struct backlog *backlog, uint64_t lease)
{
	uint32_t i = 0;

	while (i < backlog->n && backlog_at(backlog, i)->lease != lease)
		i++;
	if (i == backlog->n)
		return false;
	for (; i + 1 < backlog->n; i++)
		*backlog_at(backlog, i) = *backlog_at(backlog, i + 1);
	backlog->n--;
	return true;
}
