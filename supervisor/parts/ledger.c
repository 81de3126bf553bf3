/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/parts/ledger.h"

#include <errno.h>
#include <stddef.h>

#include "supervisor/inputs/inputs.h"

static void ledger_set(struct inputs **slot, struct inputs *inputs)
{
	struct inputs *old = *slot;

	*slot = inputs_ref(inputs);
	inputs_unref(old);
}

void ledger_fini(struct ledger *ledger)
{
	struct inputs **slots[] = { &ledger->good, &ledger->previous,
		                    &ledger->rollback_to, &ledger->refused,
		                    &ledger->writer };

	for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
		ledger_set(slots[i], NULL);
}

static void ledger_set_previous(struct ledger *ledger, const struct inputs *fresh,
                                struct inputs *last)
{
	ledger->no_way_back.text[0] = '\0';
	if (last && inputs_overwrites(fresh, last)) {
		(void)err_set(&ledger->no_way_back, 0, INPUTS_OVERWRITTEN,
		              last->section->path);
		last = NULL;
	}
	ledger_set(&ledger->previous, last);
}

bool ledger_accept(struct ledger *ledger, struct inputs *inputs, bool is_back)
{
	if (ledger->good == inputs)
		return false;
	ledger_set_previous(ledger, inputs, is_back ? NULL : ledger->good);
	ledger_set(&ledger->good, inputs);
	return true;
}

bool ledger_accept_newer(struct ledger *ledger, struct inputs *inputs)
{
	ledger_set(&ledger->previous, ledger->rollback_to);
	ledger_ask_back(ledger, NULL);
	if (ledger->good == inputs)
		return false;
	ledger_set(&ledger->good, inputs);
	return true;
}

void ledger_remember(struct ledger *ledger, struct inputs *inputs)
{
	inputs_unref(ledger->good);
	ledger->good = inputs;
}

void ledger_refuse(struct ledger *ledger, const struct inputs *inputs)
{
	inputs_unref(ledger->refused);
	ledger->refused = inputs_identity(inputs);
}

void ledger_pardon(struct ledger *ledger)
{
	ledger_set(&ledger->refused, NULL);
}

void ledger_note_writer(struct ledger *ledger, struct inputs *inputs)
{
	ledger_set(&ledger->writer, inputs);
}

int ledger_way_back(const struct ledger *ledger, const char *name,
                    const struct inputs *bad, struct inputs **ret_target, struct err *err)
{
	struct inputs *target = bad == ledger->good ? ledger->previous : ledger->good;
	struct err why;

	if (!target && *ledger->no_way_back.text)
		return err_set(err, -ENOENT, "model '%s': %s", name,
		               ledger->no_way_back.text);
	if (target && inputs_is_overwritten(target, &why))
		return err_set(err, -ENOENT, "model '%s': %s", name, why.text);
	if (!target)
		return err_set(err, -ENOENT,
		               "model '%s' has served with no other inputs that it could "
		               "go back to",
		               name);
	*ret_target = target;
	return 0;
}

bool ledger_has_previous(const struct ledger *ledger, struct err *ret_why)
{
	*ret_why = ledger->no_way_back;
	if (!ledger->previous)
		return false;
	ret_why->text[0] = '\0';
	return !inputs_is_overwritten(ledger->previous, ret_why);
}

void ledger_ask_back(struct ledger *ledger, struct inputs *inputs)
{
	ledger_set(&ledger->rollback_to, inputs);
}
