/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The supervisor's answers as text for people. A key that is missing leaves a gap, a new
 * key is shown by its name. Control characters in texts, which may come from an engine,
 * never reach the terminal. No argument is changed: jansson's iterator takes no const.
 */

#include <jansson.h>
#include <stdio.h>

/* Two answers to the question for the status, one some time after the other. */
struct ctl_looks {
	json_t *answer;
	const json_t *before; /* NULL: there was none */
	double seconds;       /* between them */
	const char *time;     /* of day, of the answer */
	int columns;          /* that the reader's lines have */
};

/* What needs attention first, then how far loads have come, then a row per model. */
void ctl_print_watch(FILE *out, const struct ctl_looks *looks);
/* The rates of each model between the two looks, in a table as wide as the reader's lines. */
void ctl_print_top(FILE *out, const struct ctl_looks *looks);
/* Prints a row per model of {"models":[...],"supervisor":{...}}, and what needs
 * attention. */
void ctl_print_status(FILE *out, json_t *answer);
/* Everything that is known of the models in @answer, a line for each member. */
void ctl_print_details(FILE *out, json_t *answer);
/* Prints one receipt as a paragraph. */
void ctl_print_receipt(FILE *out, json_t *receipt);
/* The way that a reload would take, with its numbers. */
void ctl_print_decision(FILE *out, json_t *answer);
/* Effective configuration of {"config":{...}}, as moult.conf would say it. */
void ctl_print_config(FILE *out, json_t *answer);
/* A line about {"supervisor":{"pid","uptime_s","version"}}, and its troubles. */
void ctl_print_version(FILE *out, json_t *answer);
/* @answer as it is, indented. */
void ctl_print_dump(FILE *out, json_t *answer);
/* @text without its control characters. */
void ctl_print_text(FILE *out, const char *text);
