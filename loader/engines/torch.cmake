# SPDX-License-Identifier: Apache-2.0

# Builds the torch engine against Debian's libtorch-dev, or against another by
# CMAKE_PREFIX_PATH: an unpacked libtorch, or torch.utils.cmake_prefix_path of one installed
# by pip.

include(CheckCXXSourceCompiles)

# Torch's configuration looks for a CUDA toolkit of its own version, and fails without one,
# unless this target exists. The engine compiles nothing for CUDA and needs none.
if(NOT TARGET torch::cudart)
	add_library(torch::cudart INTERFACE IMPORTED)
endif()
# Only static builds use kineto; wheels do not have it, and their configuration warns.
set(kineto_LIBRARY unused)
find_package(Torch QUIET)
if(NOT TARGET torch_cpu)
	if(NOT MOULT_TORCH STREQUAL AUTO)
		message(FATAL_ERROR "no shared libtorch found for -DMOULT_TORCH=${MOULT_TORCH} "
			"(Debian: apt-get install libtorch-dev; another: -DCMAKE_PREFIX_PATH=)")
	endif()
	return()
endif()
message(STATUS "libtorch ${Torch_VERSION}: ${TORCH_INSTALL_PREFIX}")

# moult-torch has all that the engine's source is built with, here and in the tests.
add_library(moult-torch INTERFACE)
moult_add_engine(torch engines/torch.cpp)
target_link_libraries(moult-engine-torch PRIVATE moult-torch)
# The target torch would draw in the CUDA libraries, gigabytes of them: the engine opens that
# library when a model asks for a device.
target_link_libraries(moult-torch INTERFACE moult-torch-c torch_cpu c10)
target_compile_definitions(moult-engine-torch PRIVATE
	TORCH_DEVICES_LIBRARY="$<TARGET_SONAME_FILE_NAME:torch>")
target_include_directories(moult-torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
# These flags also choose one of libstdc++'s two string classes.
separate_arguments(torch_flags NATIVE_COMMAND "${TORCH_CXX_FLAGS}")
target_compile_options(moult-torch INTERFACE ${torch_flags})

# The header of libtorch's CUDA allocator, if there is one, needs a toolkit's headers: those of
# the wheel, or of an installed one. Nothing of either is linked.
file(GLOB torch_cuda_hints "${TORCH_INSTALL_PREFIX}/../nvidia/cu*/include")
find_path(MOULT_CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ${torch_cuda_hints}
	PATHS /usr/local/cuda/include NO_CMAKE_FIND_ROOT_PATH)
if(MOULT_CUDA_INCLUDE_DIR)
	set(CMAKE_REQUIRED_INCLUDES ${TORCH_INCLUDE_DIRS} ${MOULT_CUDA_INCLUDE_DIR})
	set(CMAKE_REQUIRED_FLAGS "${TORCH_CXX_FLAGS} -std=c++20")
	set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
	check_cxx_source_compiles("#include <c10/cuda/CUDACachingAllocator.h>
		int main() { return 0; }" MOULT_TORCH_CUDA)
	unset(CMAKE_REQUIRED_INCLUDES)
	unset(CMAKE_REQUIRED_FLAGS)
	unset(CMAKE_TRY_COMPILE_TARGET_TYPE)
endif()
if(MOULT_TORCH_CUDA)
	target_compile_definitions(moult-torch INTERFACE MOULT_TORCH_CUDA)
	target_include_directories(moult-torch SYSTEM INTERFACE
		${MOULT_CUDA_INCLUDE_DIR})
endif()

# C++17, or what this libtorch asks for: newer ones as a feature, older ones as a property.
target_compile_features(moult-torch INTERFACE cxx_std_17)
get_target_property(torch_features torch INTERFACE_COMPILE_FEATURES)
if(torch_features)
	target_compile_features(moult-torch INTERFACE ${torch_features})
endif()
get_target_property(torch_standard torch CXX_STANDARD)
if(torch_standard GREATER 17)
	target_compile_features(moult-torch INTERFACE cxx_std_${torch_standard})
endif()

# The engine, installed or not, finds the libtorch that it was built with, and no other.
get_target_property(torch_location torch_cpu LOCATION)
get_filename_component(torch_dir "${torch_location}" DIRECTORY)
if(NOT torch_dir IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
	set_target_properties(moult-engine-torch PROPERTIES INSTALL_RPATH "${torch_dir}")
endif()
set_target_properties(moult-engine-torch PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
install(TARGETS moult-engine-torch DESTINATION ${MOULT_ENGINE_DIR})
