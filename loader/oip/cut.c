/* SPDX-License-Identifier: Apache-2.0 */

/*
 * oip_cut() walks over brackets and strings only, which is right where the text is JSON. The
 * JSON library finds out whether it is: oip_cut_parse() feeds it the rest piece by piece, and
 * oip_scan() checks the lists, so that a wrong walk is never believed. A key in an unusual
 * form, such as "d\u0061ta", is not found; its list goes the library's way.
 */
#include "loader/oip/cut.h"

#include <stdbool.h>
#include <string.h>

#include "loader/oip/json.h"
#include "shared/proto.h"

/* Depths of the brackets in {"inputs": [{"data": */
#define OIP_CUT_ROOT   1
#define OIP_CUT_INPUTS 2
#define OIP_CUT_INPUT  3

struct oip_walk {
	const char *at;
	const char *end;
	size_t depth;
	size_t input;    /* element of `inputs` */
	bool is_inputs;  /* the walk is inside of the list `inputs` */
	bool has_inputs; /* the key "inputs" was read, and its value is next */
};

static bool oip_cut_is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void oip_walk_spaces(struct oip_walk *walk)
{
	while (walk->at < walk->end && oip_cut_is_space(*walk->at))
		walk->at++;
}

/* Moves behind the string that begins here; *ret_text is its text. */
static void oip_walk_string(struct oip_walk *walk, struct proto_text *ret_text)
{
	const char *begin = ++walk->at;

	while (walk->at < walk->end && *walk->at != '"')
		walk->at += *walk->at == '\\' ? 2 : 1;
	if (walk->at > walk->end)
		walk->at = walk->end;
	*ret_text = (struct proto_text){ begin, (size_t)(walk->at - begin) };
	if (walk->at < walk->end)
		walk->at++;
}

/* Returns the bytes of the list that begins here; 0 when the list is empty, or has something
 * else in it than numbers, true and false. */
static size_t oip_walk_list(const struct oip_walk *walk)
{
	const char *at = walk->at;
	size_t depth = 0;

	while (at < walk->end && (*at == '[' || oip_cut_is_space(*at)))
		depth += *at++ == '[';
	if (depth == 0 || at == walk->end || *at == ']')
		return 0;
	for (; at < walk->end; at++) {
		switch (*at) {
		case '[':
			depth++;
			break;
		case ']':
			if (--depth == 0)
				return (size_t)(at + 1 - walk->at);
			break;
		case '"':
		case '{':
		case 'n':
			return 0;
		default:
			break;
		}
	}
	return 0;
}

static void oip_walk_data(struct oip_walk *walk, struct oip_cuts *cuts)
{
	size_t bytes;

	oip_walk_spaces(walk);
	if (cuts->n_cuts == ENGINE_TENSORS_MAX)
		return;
	bytes = oip_walk_list(walk);
	if (bytes == 0)
		return;
	cuts->cuts[cuts->n_cuts++] = (struct oip_cut){ walk->input, walk->at, bytes };
	walk->at += bytes;
}

static void oip_walk_key(struct oip_walk *walk, struct oip_cuts *cuts)
{
	struct proto_text key;

	oip_walk_string(walk, &key);
	oip_walk_spaces(walk);
	if (walk->at == walk->end || *walk->at != ':')
		return; /* no key, but a value */
	walk->at++;
	if (walk->depth == OIP_CUT_ROOT)
		walk->has_inputs = proto_text_equals(key, "inputs");
	else if (walk->is_inputs && walk->depth == OIP_CUT_INPUT &&
	         proto_text_equals(key, "data"))
		oip_walk_data(walk, cuts);
}

static void oip_walk_open(struct oip_walk *walk)
{
	walk->depth++;
	if (walk->depth != OIP_CUT_INPUTS)
		return;
	walk->is_inputs = walk->has_inputs && *walk->at == '[';
	walk->has_inputs = false;
	walk->input = 0;
}

void oip_cut(struct oip_cuts *cuts, const char *text, size_t bytes)
{
	struct oip_walk walk = { .at = text, .end = text + bytes };

	cuts->n_cuts = 0;
	while (walk.at < walk.end) {
		switch (*walk.at) {
		case '"':
			oip_walk_key(&walk, cuts);
			continue;
		case '{':
		case '[':
			oip_walk_open(&walk);
			break;
		case '}':
		case ']':
			if (walk.depth == 0)
				return;
			walk.is_inputs = walk.is_inputs && walk.depth > OIP_CUT_INPUTS;
			walk.depth--;
			break;
		case ',':
			walk.input += walk.depth == OIP_CUT_INPUTS;
			break;
		default:
			break;
		}
		walk.at++;
	}
}

const struct oip_cut *oip_cut_of(const struct oip_cuts *cuts, size_t input)
{
	for (size_t i = 0; i < cuts->n_cuts; i++)
		if (cuts->cuts[i].input == input)
			return &cuts->cuts[i];
	return NULL;
}

size_t oip_cut_rest(const struct oip_cuts *cuts, size_t bytes)
{
	for (size_t i = 0; i < cuts->n_cuts; i++)
		bytes -= cuts->cuts[i].bytes;
	return bytes;
}

/* The rest of a text, piece by piece. */
struct oip_pieces {
	const struct oip_cuts *cuts;
	size_t next_cut;
	const char *at;
	const char *end;
	const char *text; /* the request from here on is not read yet */
	const char *text_end;
};

/* Sets @at and @end to the next piece. False: the rest is over. */
static bool oip_pieces_next(struct oip_pieces *pieces)
{
	static const char nothing[] = "null";

	if (pieces->next_cut < pieces->cuts->n_cuts &&
	    pieces->text == pieces->cuts->cuts[pieces->next_cut].text) {
		pieces->text += pieces->cuts->cuts[pieces->next_cut++].bytes;
		pieces->at = nothing;
		pieces->end = nothing + sizeof(nothing) - 1;
		return true;
	}
	pieces->at = pieces->text;
	pieces->end = pieces->next_cut < pieces->cuts->n_cuts
	                      ? pieces->cuts->cuts[pieces->next_cut].text
	                      : pieces->text_end;
	pieces->text = pieces->end;
	return pieces->at < pieces->end;
}

static size_t oip_pieces_read(void *buffer, size_t size, void *context)
{
	struct oip_pieces *pieces = context;
	size_t bytes;

	if (pieces->at == pieces->end && !oip_pieces_next(pieces))
		return 0;
	bytes = (size_t)(pieces->end - pieces->at);
	if (bytes > size)
		bytes = size;
	memcpy(buffer, pieces->at, bytes);
	pieces->at += bytes;
	return bytes;
}

json_t *oip_cut_parse(const struct oip_cuts *cuts, const char *text, size_t bytes)
{
	struct oip_pieces pieces = { .cuts = cuts,
		                     .text = text,
		                     .text_end = text + bytes };

	return json_load_callback(oip_pieces_read, &pieces, OIP_JSON_FLAGS, NULL);
}
