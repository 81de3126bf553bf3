/* SPDX-License-Identifier: Apache-2.0 */

/*
 * data.pkl begins with the name of the model's class ("c__torch__\nNet\n"), whose source is the
 * archive's code/__torch__.py. There the class has a line "def forward(self: ..., x: Tensor) ->".
 * Sources are small, and mostly deflated.
 */
#include "supervisor/ctl/inspect/script.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "shared/cleanup.h"
#include "shared/zip.h"

#define SCRIPT_SOURCE_MAX ((uint64_t)4 << 20)
#define SCRIPT_CLASS_MAX  256

/* An entry that is looked for: by the end of its name. */
struct script_search {
	const char *name;
	struct zip_entry found;
	bool is_found;
};

static void script_on_entry(void *context, const struct zip_entry *entry)
{
	struct script_search *search = context;
	size_t bytes = strlen(entry->name);
	size_t n = strlen(search->name);

	if (search->is_found || bytes <= n || entry->name[bytes - n - 1] != '/' ||
	    strcmp(entry->name + bytes - n, search->name) != 0)
		return;
	search->found = *entry;
	search->found.name = "";
	search->is_found = true;
}

/* Unpacks @from, of a raw deflate stream, into @to. False: it is none of that size. */
static bool script_inflate(unsigned char *from, size_t from_bytes, unsigned char *to,
                           size_t to_bytes)
{
	z_stream stream = { .next_in = from,
		            .avail_in = (uInt)from_bytes,
		            .next_out = to,
		            .avail_out = (uInt)to_bytes };
	bool is_whole;

	if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
		return false;
	is_whole = inflate(&stream, Z_FINISH) == Z_STREAM_END && stream.avail_out == 0;
	(void)inflateEnd(&stream);
	return is_whole;
}

/* The text of the entry whose name ends with "/" @name; NULL: there is none. */
static char *script_read_entry(const struct model_file *file, const char *name)
{
	struct script_search search = { .name = name };
	const struct zip_entry *entry = &search.found;
	FREE unsigned char *packed = NULL;
	unsigned char *text;
	uint64_t at;

	if (zip_list(file, script_on_entry, &search) || !search.is_found ||
	    entry->packed_bytes > SCRIPT_SOURCE_MAX || entry->bytes > SCRIPT_SOURCE_MAX)
		return NULL;
	at = zip_find_data(file, entry->at);
	packed = malloc(entry->packed_bytes + 1);
	text = calloc(1, entry->bytes + 1);
	if (at > 0 && packed && text &&
	    file->read(file->context, at, packed, entry->packed_bytes) ==
	            entry->packed_bytes) {
		if (entry->method == ZIP_DEFLATED &&
		    script_inflate(packed, entry->packed_bytes, text, entry->bytes))
			return (char *)text;
		if (entry->method == ZIP_STORED && entry->packed_bytes == entry->bytes) {
			memcpy(text, packed, entry->bytes);
			return (char *)text;
		}
	}
	free(text);
	return NULL;
}

/* Reads "c__torch__.a\nNet\n" behind the pickle's first two bytes. False: it is something else. */
static bool script_read_class(const struct model_file *file, char *module, char *name)
{
	FREE char *data = script_read_entry(file, "data.pkl");

	return data && strlen(data) > 2 &&
	       sscanf(data + 2, "c%255[A-Za-z0-9_.]\n%255[A-Za-z0-9_]", module, name) ==
	               2;
}

/* Returns the end of the list whose "(" is before @at: its ")"; NULL: it has none. */
static const char *script_find_close(const char *at)
{
	int depth = 1;

	for (; *at; at++) {
		depth += *at == '(' || *at == '[';
		depth -= *at == ')' || *at == ']';
		if (depth == 0)
			return at;
	}
	return NULL;
}

/* Returns what is behind the first argument, which is the module; NULL: nothing. */
static const char *script_skip_self(const char *at, const char *end)
{
	at = memchr(at, ',', (size_t)(end - at));
	return at ? at + 1 + strspn(at + 1, " \n") : NULL;
}

char *script_find_forward(const char *source, const char *name)
{
	char head[SCRIPT_CLASS_MAX + 16];
	const char *class;
	const char *next;
	const char *at;
	const char *end;
	char *text;
	size_t used = 0;

	(void)snprintf(head, sizeof(head), "class %s(", name);
	class = strstr(source, head);
	at = class ? strstr(class, "def forward(") : NULL;
	next = class ? strstr(class + 1, "\nclass ") : NULL;
	if (!at || (next && at > next))
		return NULL;
	at += strlen("def forward(");
	end = script_find_close(at);
	at = end ? script_skip_self(at, end) : NULL;
	text = at ? malloc((size_t)(end - at) + 1) : NULL;
	if (!text)
		return NULL;
	/* Each argument has a line of its own there, and words have one space between them. */
	for (; at < end; at++) {
		bool is_space = *at == ' ' || *at == '\n';

		if (!is_space)
			text[used++] = (unsigned char)*at < ' ' ? '?' : *at;
		else if (used > 0 && text[used - 1] != ' ')
			text[used++] = ' ';
	}
	text[used] = '\0';
	return text;
}

char *script_read_forward(const struct model_file *file)
{
	char module[SCRIPT_CLASS_MAX] = "";
	char name[SCRIPT_CLASS_MAX] = "";
	char path[SCRIPT_CLASS_MAX + 16];
	FREE char *source = NULL;

	if (!script_read_class(file, module, name))
		return NULL;
	for (char *at = module; *at; at++)
		if (*at == '.')
			*at = '/';
	(void)snprintf(path, sizeof(path), "code/%s.py", module);
	source = script_read_entry(file, path);
	return source ? script_find_forward(source, name) : NULL;
}
