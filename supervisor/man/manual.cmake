# SPDX-License-Identifier: Apache-2.0
# Puts the option tables that moultd prints into the manual page's template.
execute_process(COMMAND ${MOULTD} --print-options OUTPUT_VARIABLE OPTIONS
	COMMAND_ERROR_IS_FATAL ANY)
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
