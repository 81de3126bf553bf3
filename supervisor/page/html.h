/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The page of the listener for administration: page.html, which is compiled in, with its tables
 * filled. What is filled in is escaped, wherever it comes from. Everything that the page needs is
 * in it, and its policy lets it have nothing else.
 */

#include <jansson.h>

#define HTML_POLICY_MAX 512

/* The page, malloc'ed; NULL: out of memory. @status and @receipts are those of view.h; NULL for
 * both: who asks may not see them, and the page asks for a token. */
char *html_page(const json_t *status, const json_t *receipts);
/* Prints the value of Content-Security-Policy: the one style and the one script of the page, by
 * their hashes, and requests to where it came from. */
void html_policy(char policy[HTML_POLICY_MAX]);
