# SPDX-License-Identifier: Apache-2.0

# Builds the engine server, where Debian's libcurl4-openssl-dev is, or another libcurl.

pkg_check_modules(CURL QUIET IMPORTED_TARGET libcurl>=7.85)
if(NOT CURL_FOUND)
	if(NOT MOULT_SERVER STREQUAL AUTO)
		message(FATAL_ERROR "no libcurl found for -DMOULT_SERVER=${MOULT_SERVER} "
			"(Debian: apt-get install libcurl4-openssl-dev)")
	endif()
	return()
endif()

moult_add_engine(server server/engine.c server/head.c server/need.c server/place.c
	server/probe.c server/process.c server/proxy.c server/ready.c
	server/transfer.c)
set_target_properties(moult-engine-server PROPERTIES C_VISIBILITY_PRESET hidden)
target_link_libraries(moult-engine-server PRIVATE PkgConfig::CURL PkgConfig::JANSSON
	Threads::Threads)
install(TARGETS moult-engine-server DESTINATION ${MOULT_ENGINE_DIR})
