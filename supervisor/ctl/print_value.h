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
/* Whether @object has something at @path, such as "requests.held", that is neither null nor
 * an empty text. */
bool print_has(const json_t *object, const char *path);
/* Number at @path in @object; 0: there is none. */
double print_find_number(const json_t *object, const char *path);
/* Prints @form, where "{requests.held}" stands for a scalar at that path of @object. What
 * stands in "[...]" is left out where print_has() is false for a member that it names; of "[...|...]" the second half is printed then. */
void print_form(FILE *out, const json_t *object, const char *form);
/* Prints @text without its control characters, padded to @width. */
void print_cell(FILE *out, const char *text, int width);
