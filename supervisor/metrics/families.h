/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every metric that there is, in the order in which they are written: its id in the code, its
 * type, its name without _total and _info, and what it says. moult-http(7) says the same.
 * Included wherever FAMILY() makes something of a row.
 */

/* clang-format would break the sentences elsewhere. */
/* clang-format off */
FAMILY(BUILD, INFO, "moult_build",
       "The version of moultd, and of its protocol with the loaders.")

/* accepted = answered + failed + held + leased, at any moment. */
FAMILY(REQUESTS_ACCEPTED, COUNTER, "moult_requests_accepted", "Requests taken in.")
FAMILY(REQUESTS_ANSWERED, COUNTER, "moult_requests_answered",
       "Requests answered by a loader, with whatever status.")
FAMILY(REQUESTS_FAULTS, COUNTER, "moult_requests_faults",
       "Answers that were the model's own failure: status 500, or numbers that are not "
       "finite.")
FAMILY(REQUESTS_FAILED, COUNTER, "moult_requests_failed",
       "Requests that ended without a loader's answer.")
FAMILY(REQUESTS_REPLAYED, COUNTER, "moult_requests_replayed",
       "Leases that went back to the queue.")
FAMILY(REQUESTS_HELD, GAUGE, "moult_requests_held", "Requests that wait for a loader.")
FAMILY(REQUESTS_HELD_BYTES, GAUGE, "moult_requests_held_bytes",
       "Memory that held requests occupy.")
FAMILY(REQUESTS_LEASED, GAUGE, "moult_requests_leased", "Requests that a loader has.")
FAMILY(REQUESTS_FAILURES, COUNTER, "moult_requests_failures",
       "Requests that ended without a loader's answer, by reason.")
FAMILY(RESPONSES, COUNTER, "moult_responses",
       "Answers to requests for inference that were sent, by a loader or by moultd, by "
       "HTTP status.")
FAMILY(INFERENCES, COUNTER, "moult_inferences", "Rows of requests that succeeded.")
FAMILY(EXECUTIONS, COUNTER, "moult_executions", "Batches that were computed.")
FAMILY(REQUEST_SECONDS, HISTOGRAM, "moult_request_seconds",
       "From a request's acceptance to its end.")
FAMILY(QUEUE_SECONDS, HISTOGRAM, "moult_queue_seconds",
       "Time spent waiting, held or in the loader's queue; of requests that succeeded.")
FAMILY(COMPUTE_SECONDS, HISTOGRAM, "moult_compute_seconds",
       "Time of batches inside the engine.")
FAMILY(BATCH_ROWS, HISTOGRAM, "moult_batch_rows", "Rows of batches.")
FAMILY(REQUEST_MEMORY_BYTES, HISTOGRAM, "moult_request_memory_bytes",
       "Memory of the device that a batch took to be computed, beside the weights.")
FAMILY(GENERATION, GAUGE, "moult_generation",
       "Number of the generation that serves; 0: none.")
FAMILY(READY, GAUGE, "moult_ready", "1: a generation serves.")
FAMILY(LOADERS, GAUGE, "moult_loaders", "Loaders that serve.")
FAMILY(STALE, GAUGE, "moult_stale",
       "1: what is on disk for the model is not what serves: it is of no use, failed, "
       "or was rolled back from.")
FAMILY(WALLS, GAUGE, "moult_walls", "1: this layer stands round the loader that serves.")
FAMILY(MEMORY_BYTES, GAUGE, "moult_memory_bytes",
       "Memory that the model's loaders hold now, with the weights that they share.")
FAMILY(RELOADS, COUNTER, "moult_reloads",
       "Reloads that are over, by cause and outcome; starts and rollbacks are causes.")
FAMILY(RELOAD_SECONDS, GAUGE, "moult_reload_seconds",
       "Phases of the last reload; pause: no loader took requests.")
FAMILY(RELOAD_MEMORY_BYTES, GAUGE, "moult_reload_memory_bytes",
       "Main memory of loaders and shared weights in the last reload.")
FAMILY(RELOAD_GPU_BYTES, GAUGE, "moult_reload_gpu_bytes",
       "Memory in use on the GPU in the last reload; prefilled: weights that came while "
       "the old loader served; residual: what the loader that went did not give back.")
FAMILY(DEVICE_TOTAL_BYTES, GAUGE, "moult_device_total_bytes", "Memory of a GPU.")
FAMILY(DEVICE_USED_BYTES, GAUGE, "moult_device_used_bytes",
       "Memory of a GPU that is in use, by everybody.")
FAMILY(DEVICE_FREE_BYTES, GAUGE, "moult_device_free_bytes",
       "Memory of a GPU that is free.")
FAMILY(DEVICE_LOADERS_BYTES, GAUGE, "moult_device_loaders_bytes",
       "Memory of a GPU that loaders hold, or that those being built claim.")
FAMILY(DEVICE_XIDS, COUNTER, "moult_device_xids",
       "Critical errors of a GPU (Xid) that its driver reported.")
FAMILY(CONFIG_REFUSED, GAUGE, "moult_config_refused",
       "1: the configuration files are refused, the last good one is in use.")
FAMILY(SPARE_READY, GAUGE, "moult_spare_ready", "Loaders that wait to be taken.")
FAMILY(SPARES_STARTED, COUNTER, "moult_spares_started",
       "Loaders that were started ahead.")
FAMILY(SPARES_TAKEN, COUNTER, "moult_spares_taken",
       "Loaders started ahead that were taken.")
FAMILY(SPARES_LOST, COUNTER, "moult_spares_lost",
       "Loaders started ahead that were of no use.")
FAMILY(HTTP_CONNECTIONS, GAUGE, "moult_http_connections", "Open connections.")
FAMILY(HTTP_ACCEPTED, COUNTER, "moult_http_accepted", "Connections accepted.")
FAMILY(HTTP_EXPIRED, COUNTER, "moult_http_expired", "Connections closed at a deadline.")
FAMILY(HTTP_EVICTED, COUNTER, "moult_http_evicted",
       "Connections closed so that others have room.")
FAMILY(HTTP_REFUSED, COUNTER, "moult_http_refused",
       "Connections closed before their first byte, by proxy_protocol.")
FAMILY(HTTP_LIMITED, COUNTER, "moult_http_limited",
       "Requests answered 429, because their address had had its share.")
FAMILY(HTTP_WAITED, COUNTER, "moult_http_waited",
       "Requests for metrics, statistics or the index that waited for their turn.")
FAMILY(HTTP_RUNS, COUNTER, "moult_http_runs",
       "Rounds of the HTTP daemon: hardly any on an idle server.")
FAMILY(TLS_NOT_AFTER, GAUGE, "moult_tls_not_after_seconds",
       "End of the certificate in use, or of one in its chain, since the Unix epoch.")
FAMILY(TLS_STALE, GAUGE, "moult_tls_stale",
       "1: the certificate on disk is of no use, the last good one is in use.")
FAMILY(TLS_ROTATIONS, COUNTER, "moult_tls_rotations",
       "Certificates that took the place of another one.")
FAMILY(TLS_UNFINISHED, COUNTER, "moult_tls_unfinished",
       "Connections that ended before their TLS handshake did.")
FAMILY(TOKENS, GAUGE, "moult_tokens", "Tokens in use.")
FAMILY(TOKENS_STALE, GAUGE, "moult_tokens_stale",
       "1: the tokens on disk are of no use, the last good ones are in use.")
FAMILY(ACCESS_LOG_DROPPED, COUNTER, "moult_access_log_dropped",
       "Lines of the access log (access_log) that were dropped, where there is one.")
FAMILY(HTTP_RESPONSES, COUNTER, "moult_http_responses",
       "Answers of any kind by class of status.")
FAMILY(GRPC_CONNECTIONS, GAUGE, "moult_grpc_connections",
       "Open connections of gRPC.")
FAMILY(GRPC_ACCEPTED, COUNTER, "moult_grpc_accepted", "Connections of gRPC accepted.")
FAMILY(GRPC_EXPIRED, COUNTER, "moult_grpc_expired",
       "Connections and calls of gRPC ended at a deadline.")
FAMILY(GRPC_REFUSED, COUNTER, "moult_grpc_refused",
       "Connections of gRPC closed at once, because there was no room for them.")
FAMILY(GRPC_CALLS, GAUGE, "moult_grpc_calls", "Calls of gRPC under way.")
FAMILY(GRPC_RESPONSES, COUNTER, "moult_grpc_responses",
       "Answers to calls of gRPC by status code.")

/* Named as every client library of Prometheus names them; of moultd alone. */
FAMILY(PROCESS_CPU_SECONDS, COUNTER, "process_cpu_seconds",
       "User and system time that moultd spent.")
FAMILY(PROCESS_RESIDENT_MEMORY_BYTES, GAUGE, "process_resident_memory_bytes",
       "Resident memory of moultd.")
FAMILY(PROCESS_VIRTUAL_MEMORY_BYTES, GAUGE, "process_virtual_memory_bytes",
       "Virtual memory of moultd.")
FAMILY(PROCESS_OPEN_FDS, GAUGE, "process_open_fds", "Open descriptors of moultd.")
FAMILY(PROCESS_MAX_FDS, GAUGE, "process_max_fds", "Descriptors that moultd may have.")
FAMILY(PROCESS_START_TIME_SECONDS, GAUGE, "process_start_time_seconds",
       "Start of moultd since the Unix epoch.")
