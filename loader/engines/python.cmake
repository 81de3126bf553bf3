# SPDX-License-Identifier: Apache-2.0

# Builds the engine python, where Debian's python3-dev is, or another Python's headers: only the
# limited API is used, so that what is built with one version serves all from 3.9 on.

if(MOULT_SANITIZE)
	# The interpreter is not built with it, and would have to be.
	return()
endif()
pkg_check_modules(PYTHON3 QUIET IMPORTED_TARGET python3)
if(NOT PYTHON3_FOUND)
	if(NOT MOULT_PYTHON STREQUAL AUTO)
		message(FATAL_ERROR "no Python.h found for -DMOULT_PYTHON=${MOULT_PYTHON} "
			"(Debian: apt-get install python3-dev)")
	endif()
	return()
endif()

# The loader is in it, because the interpreter opens it to run the loader.
moult_add_engine(python engines/python.c engines/python_lane.c engines/python_need.c
	engines/python_tensors.c interpreter_module.c)
set_target_properties(moult-engine-python PROPERTIES C_VISIBILITY_PRESET hidden
	LINKER_LANGUAGE C)
target_include_directories(moult-engine-python SYSTEM PRIVATE ${PYTHON3_INCLUDE_DIRS})
target_link_libraries(moult-engine-python PRIVATE moult-loader-core)
# Nothing of the loader is seen by the modules of an application, which may have the same names.
target_link_options(moult-engine-python PRIVATE -Wl,--exclude-libs,ALL)
install(TARGETS moult-engine-python DESTINATION ${MOULT_ENGINE_DIR})

# The package lies beside the engine, in the build tree as where it is installed.
set(package __init__ _ahead _archive _asgi _async _bodies _classes _declared _engine _handlers _lifespan _load _tensors _triton _triton_utils _watch _weights _wsgi)
set(copies "")
foreach(file IN ITEMS bootstrap main ${package})
	set(source ${CMAKE_CURRENT_SOURCE_DIR}/engines/python/moult/${file}.py)
	set(folder python/moult)
	if(file MATCHES "^(bootstrap|main)$")
		set(source ${CMAKE_CURRENT_SOURCE_DIR}/engines/python/${file}.py)
		set(folder python)
	endif()
	set(copy ${PROJECT_BINARY_DIR}/${folder}/${file}.py)
	add_custom_command(OUTPUT ${copy}
		COMMAND ${CMAKE_COMMAND} -E copy ${source} ${copy}
		DEPENDS ${source} COMMENT "${folder}/${file}.py")
	list(APPEND copies ${copy})
	install(FILES ${source} DESTINATION ${MOULT_ENGINE_DIR}/${folder})
endforeach()
add_custom_target(moult-python-package ALL DEPENDS ${copies})
add_dependencies(moult-engine-python moult-python-package)
