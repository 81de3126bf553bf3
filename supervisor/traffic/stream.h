/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The body of a leased request that comes by parts, as its loader sees it (struct proto_stream).
 * Nothing that the loader writes is believed: it can have read no more than has come.
 */

#include "shared/err.h"
#include "shared/proto.h"
#include "supervisor/traffic/request.h"

/* @request is about to be leased: the loader has read nothing. */
void stream_begin(struct proto_stream *stream, struct request *request);
/* Shows the loader what has come. */
void stream_write(struct proto_stream *stream, const struct request *request);
/* True: the loader has made room for which the owner waits. */
bool stream_has_room(const struct proto_stream *stream, const struct request *request);
/* Sees what the loader has read, and has an owner told that waits for room. 0, or a sentence: the
 * loader says what cannot be. */
int stream_look(const struct proto_stream *stream, struct request *request,
                struct err *err);
/* The lease has ended: another loader reads from the beginning, if that is still there. */
void stream_end(struct request *request);
