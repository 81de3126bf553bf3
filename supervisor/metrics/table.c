/* SPDX-License-Identifier: Apache-2.0 */

/* Every metric that there is: its name, its type, what it says. */

#include "supervisor/metrics/metrics.h"

const struct metrics_family metrics_families[METRICS_ID_COUNT] = {
	[METRICS_BUILD] = { "moult_build", METRICS_INFO, "What runs." },

	/* accepted = answered + failed + held + leased, at any moment. */
	[METRICS_REQUESTS_ACCEPTED] = { "moult_requests_accepted", METRICS_COUNTER,
	                                "Requests taken in." },
	[METRICS_REQUESTS_ANSWERED] = { "moult_requests_answered", METRICS_COUNTER,
	                                "Requests answered by a loader, with whatever "
	                                "status." },
	[METRICS_REQUESTS_FAULTS] = { "moult_requests_faults", METRICS_COUNTER,
	                              "Answers that were the model's own failure: status "
	                              "500, or numbers that are not finite." },
	[METRICS_REQUESTS_FAILED] = { "moult_requests_failed", METRICS_COUNTER,
	                              "Requests that ended without a loader's answer." },
	[METRICS_REQUESTS_REPLAYED] = { "moult_requests_replayed", METRICS_COUNTER,
	                                "Leases that went back to the queue." },
	[METRICS_REQUESTS_HELD] = { "moult_requests_held", METRICS_GAUGE,
	                            "Requests that wait for a loader." },
	[METRICS_REQUESTS_HELD_BYTES] = { "moult_requests_held_bytes", METRICS_GAUGE,
	                                  "Memory that those occupy." },
	[METRICS_REQUESTS_LEASED] = { "moult_requests_leased", METRICS_GAUGE,
	                              "Requests that a loader has." },
	[METRICS_REQUESTS_FAILURES] = { "moult_requests_failures", METRICS_COUNTER,
	                                "Requests that ended without a loader's answer, "
	                                "by reason." },
	[METRICS_RESPONSES] = { "moult_responses", METRICS_COUNTER,
	                        "Answers to requests for inference that were sent, of "
	                        "whomever, by HTTP status." },
	[METRICS_INFERENCES] = { "moult_inferences", METRICS_COUNTER,
	                         "Rows of requests that succeeded." },
	[METRICS_EXECUTIONS] = { "moult_executions", METRICS_COUNTER,
	                         "Batches that were computed." },
	[METRICS_REQUEST_SECONDS] = { "moult_request_seconds", METRICS_HISTOGRAM,
	                              "From a request's acceptance to its end." },
	[METRICS_QUEUE_SECONDS] = { "moult_queue_seconds", METRICS_HISTOGRAM,
	                            "Of that, waiting: held, or in the loader's queue; "
	                            "of "
	                            "requests that succeeded." },
	[METRICS_COMPUTE_SECONDS] = { "moult_compute_seconds", METRICS_HISTOGRAM,
	                              "Batches inside the engine." },
	[METRICS_BATCH_ROWS] = { "moult_batch_rows", METRICS_HISTOGRAM,
	                         "Rows of batches." },
	[METRICS_REQUEST_MEMORY_BYTES] = { "moult_request_memory_bytes",
	                                   METRICS_HISTOGRAM,
	                                   "Memory of the device that a batch took to be "
	                                   "computed, beside the weights." },
	[METRICS_GENERATION] = { "moult_generation", METRICS_GAUGE,
	                         "Generation that serves; 0: none." },
	[METRICS_READY] = { "moult_ready", METRICS_GAUGE, "1: a generation serves." },
	[METRICS_LOADERS] = { "moult_loaders", METRICS_GAUGE, "Loaders that serve." },
	[METRICS_STALE] = { "moult_stale", METRICS_GAUGE,
	                    "1: what lies on disk of the model is of no use, and is not "
	                    "what serves." },
	[METRICS_MEMORY_BYTES] = { "moult_memory_bytes", METRICS_GAUGE,
	                           "Memory that the model's loaders hold now, with the "
	                           "weights that they share." },
	[METRICS_RELOADS] = { "moult_reloads", METRICS_COUNTER,
	                      "Reloads that are over, by cause and outcome; starts and "
	                      "rollbacks are causes." },
	[METRICS_RELOAD_SECONDS] = { "moult_reload_seconds", METRICS_GAUGE,
	                             "Phases of the last reload; pause: no loader took "
	                             "requests." },
	[METRICS_RELOAD_MEMORY_BYTES] = { "moult_reload_memory_bytes", METRICS_GAUGE,
	                                  "Main memory of loaders and shared weights in "
	                                  "the last reload." },
	[METRICS_RELOAD_GPU_BYTES] = { "moult_reload_gpu_bytes", METRICS_GAUGE,
	                               "Memory in use on the GPU in the last reload; "
	                               "prefilled: weights that came while the old "
	                               "loader "
	                               "served; residual: what the loader that went did "
	                               "not give back." },
	[METRICS_DEVICE_TOTAL_BYTES] = { "moult_device_total_bytes", METRICS_GAUGE,
	                                 "Memory of a GPU." },
	[METRICS_DEVICE_USED_BYTES] = { "moult_device_used_bytes", METRICS_GAUGE,
	                                "Of it in use, by everybody." },
	[METRICS_DEVICE_FREE_BYTES] = { "moult_device_free_bytes", METRICS_GAUGE,
	                                "Of it free." },
	[METRICS_DEVICE_LOADERS_BYTES] = { "moult_device_loaders_bytes", METRICS_GAUGE,
	                                   "Of it held by loaders, or claimed by those "
	                                   "that are built." },
	[METRICS_DEVICE_XIDS] = { "moult_device_xids", METRICS_COUNTER,
	                          "Critical errors of a GPU (Xid) that its driver "
	                          "reported." },
	[METRICS_CONFIG_REFUSED] = { "moult_config_refused", METRICS_GAUGE,
	                             "1: the configuration files are refused, the last "
	                             "good one is in use." },
	[METRICS_SPARE_READY] = { "moult_spare_ready", METRICS_GAUGE,
	                          "1: a loader waits to be taken." },
	[METRICS_SPARES_STARTED] = { "moult_spares_started", METRICS_COUNTER,
	                             "Loaders that were started ahead." },
	[METRICS_SPARES_TAKEN] = { "moult_spares_taken", METRICS_COUNTER,
	                           "Those that were taken." },
	[METRICS_SPARES_LOST] = { "moult_spares_lost", METRICS_COUNTER,
	                          "Those that were of no use." },
	[METRICS_HTTP_CONNECTIONS] = { "moult_http_connections", METRICS_GAUGE,
	                               "Open connections." },
	[METRICS_HTTP_ACCEPTED] = { "moult_http_accepted", METRICS_COUNTER,
	                            "Connections accepted." },
	[METRICS_HTTP_EXPIRED] = { "moult_http_expired", METRICS_COUNTER,
	                           "Connections closed at a deadline." },
	[METRICS_HTTP_EVICTED] = { "moult_http_evicted", METRICS_COUNTER,
	                           "Connections closed so that others have room." },
	[METRICS_HTTP_WAITED] = { "moult_http_waited", METRICS_COUNTER,
	                          "Requests for metrics, statistics or the index that "
	                          "waited for their turn." },
	[METRICS_HTTP_RUNS] = { "moult_http_runs", METRICS_COUNTER,
	                        "Rounds of the HTTP daemon: hardly any on an idle "
	                        "server." },
	[METRICS_ACCESS_LOG_DROPPED] = { "moult_access_log_dropped", METRICS_COUNTER,
	                                 "Lines of the access log that were dropped." },
	[METRICS_HTTP_RESPONSES] = { "moult_http_responses", METRICS_COUNTER,
	                             "Answers of any kind by class of status." },

	/* Named as every client library of Prometheus names them; of moultd alone. */
	[METRICS_PROCESS_CPU_SECONDS] = { "process_cpu_seconds", METRICS_COUNTER,
	                                  "User and system time that moultd spent." },
	[METRICS_PROCESS_RESIDENT_MEMORY_BYTES] = { "process_resident_memory_bytes",
	                                            METRICS_GAUGE,
	                                            "Resident memory of moultd." },
	[METRICS_PROCESS_VIRTUAL_MEMORY_BYTES] = { "process_virtual_memory_bytes",
	                                           METRICS_GAUGE,
	                                           "Virtual memory of moultd." },
	[METRICS_PROCESS_OPEN_FDS] = { "process_open_fds", METRICS_GAUGE,
	                               "Open descriptors of moultd." },
	[METRICS_PROCESS_MAX_FDS] = { "process_max_fds", METRICS_GAUGE,
	                              "Descriptors that moultd may have." },
	[METRICS_PROCESS_START_TIME_SECONDS] = { "process_start_time_seconds",
	                                         METRICS_GAUGE,
	                                         "Start of moultd since the Unix "
	                                         "epoch." },
};
