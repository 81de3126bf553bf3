/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Values of the supervisor's answers as text, for print.c and print_receipt.c only. The end of
 * a key's name tells the unit of its value (_bytes, _ms, _s), and is left out where the value
 * shows it.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define PRINT_CELL_MAX 80

void print_duration(char *text, size_t size, double ms);
void print_bytes(char *text, size_t size, double bytes);
/* Length of @key without its unit, which the printed value shows. */
size_t print_bare_bytes(const char *key);
/* Whether @key without its unit is the name of another member of @object, as of "held_bytes"
 * and "held". */
bool print_has_bare(json_t *object, const char *key);
/* Prints a scalar in the unit that its key's name tells. */
void print_scalar(FILE *out, const char *key, const json_t *value);
/* NULL: @object has no text @key, or an empty one. Borrowed from @object. */
const char *print_find_text(const json_t *object, const char *key);
/* Prints a number right-aligned in a column; a dash where there is none. */
void print_count(FILE *out, const json_t *value, int width);
/* Prints @text without its control characters, padded to @width. */
void print_cell(FILE *out, const char *text, int width);
/* Prints @label and the text @key of @object. */
void print_field(FILE *out, const char *label, json_t *object, const char *key);
