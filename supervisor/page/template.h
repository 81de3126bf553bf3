/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* page.html, as embed.cmake has made bytes of it: terminated like a string. */
extern const unsigned char html_template[];
