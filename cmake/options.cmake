# What a build can be told. Everything that is not the library itself is on only when hob is the top
# project, so that a project which embeds hob builds the library and nothing else.

option(HOB_BUILD_TOOLS "Build the hob program" ${PROJECT_IS_TOP_LEVEL})
option(HOB_BUILD_TESTS "Build the tests (needs GoogleTest)" ${PROJECT_IS_TOP_LEVEL})
option(HOB_BUILD_BENCH "Build the benchmarks (needs Google Benchmark)" ${PROJECT_IS_TOP_LEVEL})
option(HOB_INSTALL "Write install rules" ${PROJECT_IS_TOP_LEVEL})
option(HOB_WITH_TBB "Build hob::tbb, the threads lent by oneTBB" ON)
option(HOB_DEFAULT_MODEL "Build the default model into hob::runtime" ON)
option(HOB_WERROR "Treat warnings in hob's own code as errors" OFF)
option(HOB_FUZZ "Build the fuzz targets with libFuzzer (clang, with HOB_SANITIZE=fuzzer-no-link,...)" OFF)
set(HOB_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize: address,undefined or thread")
set(HOB_TARGETS "" CACHE STRING
    "Compile only these SIMD targets, such as avx2;avx3_dl, to save time while editing (default: all)")
set(HOB_BENCH_GGML "" CACHE PATH
    "Build bench/compare_ggml with this ggml: an installation, or the source of ggml or llama.cpp")

# BUILD_SHARED_LIBS is honoured; it belongs to the top project, so hob only shows it there.
if(PROJECT_IS_TOP_LEVEL)
  option(BUILD_SHARED_LIBS "Build shared libraries" OFF)
  get_property(hob_multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(NOT CMAKE_BUILD_TYPE AND NOT hob_multi_config)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug, RelWithDebInfo" FORCE)
  endif()
endif()
