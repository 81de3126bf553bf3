/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The shells' scripts (completion/) know nothing of moultctl but that it is
 * asked like this: moultctl --complete WORD... Words that make no sense are passed over, because
 * a line that is being written may be put right later.
 */

#include "supervisor/ctl/complete.h"

#include <string.h>

#include "shared/log.h"

struct complete_line {
	const struct ctl_command *command;
	const struct option *valued; /* its value comes next; or NULL */
	int n_words; /* the command and what stands behind it, no options */
};

static void complete_offer(FILE *out, const char *begun, const char *dashes,
                           const char *name)
{
	if (strncmp(dashes, begun, strlen(dashes)) == 0 &&
	    strncmp(name, begun + strlen(dashes), strlen(begun + strlen(dashes))) == 0)
		(void)fprintf(out, "%s%s\n", dashes, name);
}

static const struct option *complete_find_option(const char *word)
{
	for (const struct option *option = ctl_options; option->name; option++)
		if ((word[1] == '-' && strcmp(word + 2, option->name) == 0) ||
		    (word[1] == option->val && word[2] == '\0'))
			return option;
	return NULL;
}

/* Takes one whole word of the line. */
static void complete_take(struct complete_line *line, char *word,
                          struct ctl_arguments *arguments)
{
	const struct option *option;

	if (line->valued) {
		if (line->valued->val == 's')
			arguments->socket = word;
		line->valued = NULL;
	} else if (word[0] == '-') {
		option = complete_find_option(word);
		line->valued =
			option && option->has_arg == required_argument ? option : NULL;
	} else if (line->n_words++ == 0) {
		line->command = ctl_command_find(word);
	}
}

static void complete_options(FILE *out, const char *begun,
                             const struct ctl_command *command)
{
	for (const struct option *option = ctl_options; option->name; option++) {
		unsigned int takes = ctl_option_takes(option);

		if (takes == 0 || (command && (command->takes & takes)))
			complete_offer(out, begun, "--", option->name);
	}
}

static enum ctl_offer complete_word(FILE *out, const struct complete_line *line,
                                    const char *begun)
{
	const char *argument = line->command ? line->command->argument : NULL;

	if (line->valued)
		return line->valued->val == 's' || ctl_option_takes(line->valued) ==
		                                           CTL_TAKES_DIRECTORY
		               ? CTL_OFFER_FILES
		               : CTL_OFFER_PRINTED;
	if (begun[0] == '-') {
		complete_options(out, begun, line->command);
	} else if (line->n_words == 0) {
		for (size_t i = 0; ctl_commands[i].name; i++)
			complete_offer(out, begun, "", ctl_commands[i].name);
	} else if (line->n_words == 1 && argument && strcmp(argument, "model") == 0) {
		return CTL_OFFER_MODELS;
	} else if (line->n_words == 1 && argument && strcmp(argument, "file") == 0) {
		return CTL_OFFER_FILES;
	} else if (line->n_words == 1 && argument) {
		for (int level = LOG_LEVEL_ERR; level <= LOG_LEVEL_DEBUG; level++)
			complete_offer(out, begun, "", log_level_name(level));
	}
	return CTL_OFFER_PRINTED;
}

enum ctl_offer ctl_complete(FILE *out, int n_words, char **words,
                            struct ctl_arguments *arguments)
{
	struct complete_line line = { 0 };

	for (int i = 0; i < n_words - 1; i++)
		complete_take(&line, words[i], arguments);
	return complete_word(out, &line, n_words ? words[n_words - 1] : "");
}

void ctl_complete_models(FILE *out, const json_t *answer, const char *begun)
{
	const json_t *model;
	size_t i;

	json_array_foreach(json_object_get(answer, "models"), i, model)
		complete_offer(out, begun, "",
	                       json_string_value(json_object_get(model, "name")));
}
