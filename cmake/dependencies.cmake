# The libraries hob stands on. An installed package is taken first; what is not installed is fetched:
# a pinned release from the project's own repository, checked against its hash.
# A library that hob's own static archives need (Highway, PCRE2, utf8proc) is, when fetched, compiled
# into them, so that an installed hob is complete either way.
include(FetchContent)

# hob_fetch(NAME URL SHA256): unpacks a release; sets <NAME>_SOURCE_DIR.
# FETCHCONTENT_SOURCE_DIR_<NAME> names a tree that is here already.
function(hob_fetch name url sha256)
  string(TOUPPER "${name}" upper)
  set(source)
  if(NOT FETCHCONTENT_SOURCE_DIR_${upper})
    get_filename_component(extension "${url}" EXT)
    string(REGEX MATCH "\\.tar\\.[a-z]+$" extension "${extension}")
    set(archive "${FETCHCONTENT_BASE_DIR}/archives/${name}${extension}")
    set(found)
    if(EXISTS "${archive}")
      file(SHA256 "${archive}" found)
    endif()
    if(NOT found STREQUAL sha256)
      message(STATUS "hob: ${name} is not installed, fetching ${url}")
      file(DOWNLOAD "${url}" "${archive}" STATUS status INACTIVITY_TIMEOUT 30 TLS_VERIFY ON)
      list(POP_FRONT status code reason)
      if(code EQUAL 0)
        file(SHA256 "${archive}" found)
        if(NOT found STREQUAL sha256)
          set(code 1)
          set(reason "its SHA-256 is ${found}, not ${sha256}")
        endif()
      endif()
      if(NOT code EQUAL 0)
        file(REMOVE "${archive}")
        list(JOIN hob_missing_packages " " packages)
        message(FATAL_ERROR
          "hob needs ${name}, which is neither installed nor could be fetched:\n"
          "  ${url}: ${reason}\n"
          "Install what is missing; on Debian and Ubuntu: apt-get install ${packages}\n"
          "or point FETCHCONTENT_SOURCE_DIR_${upper} to an unpacked release of it.")
      endif()
    endif()
    set(source URL "file://${archive}" URL_HASH "SHA256=${sha256}" DOWNLOAD_EXTRACT_TIMESTAMP OFF)
  endif()
  # No such subdirectory: we unpack only. What is built of it, and with which options, is said below.
  FetchContent_Declare(${name} ${source} SOURCE_SUBDIR hob-does-not-add-it)
  FetchContent_MakeAvailable(${name})
  string(TOLOWER "${name}" lower)
  set(${name}_SOURCE_DIR "${${lower}_SOURCE_DIR}" PARENT_SCOPE)
  set(${name}_BINARY_DIR "${${lower}_BINARY_DIR}" PARENT_SCOPE)
endfunction()

# hob_add_fetched(NAME): adds a fetched project; only what we link is built, nothing is installed.
macro(hob_add_fetched name)
  add_subdirectory("${${name}_SOURCE_DIR}" "${${name}_BINARY_DIR}" EXCLUDE_FROM_ALL SYSTEM)
endmacro()

# hob_bundle(TARGET SOURCES...): compiles fetched sources as they are, to be taken into our archives.
function(hob_bundle target)
  add_library(${target} OBJECT EXCLUDE_FROM_ALL ${ARGN})
  set_target_properties(${target} PROPERTIES
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    CXX_STANDARD 17 POSITION_INDEPENDENT_CODE ON UNITY_BUILD OFF)
  target_compile_options(${target} PRIVATE -ffp-contract=off -w)
endfunction()

# ---------------------------------------------------------------- what is installed

set(hob_missing_packages)

set(HOB_HIGHWAY_DIR "" CACHE PATH "Source tree of Highway 1.2 or newer, to be compiled into hob::kernels")
if(HOB_HIGHWAY_DIR AND NOT EXISTS "${HOB_HIGHWAY_DIR}/hwy/targets.cc")
  message(FATAL_ERROR "HOB_HIGHWAY_DIR: no source of Highway in ${HOB_HIGHWAY_DIR}")
endif()
set(HOB_HIGHWAY_SOURCE)
foreach(dir IN ITEMS "${HOB_HIGHWAY_DIR}" "${PROJECT_SOURCE_DIR}/build/_deps/highway")
  if(NOT HOB_HIGHWAY_SOURCE AND EXISTS "${dir}/hwy/targets.cc")
    set(HOB_HIGHWAY_SOURCE "${dir}")
  endif()
endforeach()
if(NOT HOB_HIGHWAY_SOURCE)
  find_package(hwy 1.2 CONFIG QUIET)
  if(NOT hwy_FOUND)
    list(APPEND hob_missing_packages "'libhwy-dev (>= 1.2)'")
  endif()
endif()

find_package(PCRE2 QUIET)
if(NOT PCRE2_FOUND)
  list(APPEND hob_missing_packages libpcre2-dev)
endif()
find_package(UTF8PROC QUIET)
if(NOT UTF8PROC_FOUND)
  list(APPEND hob_missing_packages libutf8proc-dev)
endif()
if(HOB_WITH_TBB)
  find_package(TBB 2021 CONFIG QUIET)
  if(NOT TBB_FOUND)
    list(APPEND hob_missing_packages libtbb-dev)
  endif()
endif()
if(HOB_BUILD_TOOLS)
  find_package(CLI11 CONFIG QUIET)
  if(NOT CLI11_FOUND)
    list(APPEND hob_missing_packages libcli11-dev)
  endif()
endif()
if(HOB_BUILD_TOOLS OR HOB_BUILD_TESTS OR HOB_BUILD_BENCH)
  find_package(nlohmann_json 3 CONFIG QUIET)
  if(NOT nlohmann_json_FOUND)
    list(APPEND hob_missing_packages nlohmann-json3-dev)
  endif()
endif()
if(HOB_BUILD_BENCH)
  find_package(benchmark CONFIG QUIET)
  if(NOT benchmark_FOUND)
    list(APPEND hob_missing_packages libbenchmark-dev)
  endif()
endif()
if(HOB_BUILD_TESTS)
  # Debian's googletest package has the sources for those whose compiler or CPU is another.
  find_package(GTest CONFIG QUIET)
  if(NOT GTest_FOUND AND EXISTS /usr/src/googletest/CMakeLists.txt AND NOT FETCHCONTENT_SOURCE_DIR_GOOGLETEST)
    set(FETCHCONTENT_SOURCE_DIR_GOOGLETEST /usr/src/googletest)
  elseif(NOT GTest_FOUND)
    list(APPEND hob_missing_packages libgtest-dev)
  endif()
endif()

# ---------------------------------------------------------------- what is fetched

# Highway's sources are compiled in kernels/CMakeLists.txt (cmake/simd.cmake).
if(NOT HOB_HIGHWAY_SOURCE AND NOT hwy_FOUND)
  hob_fetch(highway https://github.com/google/highway/archive/refs/tags/1.2.0.tar.gz
            7e0be78b8318e8bdbf6fa545d2ecb4c90f947df03f7aadc42c1967f019e63343)
  set(HOB_HIGHWAY_SOURCE "${highway_SOURCE_DIR}")
endif()

if(NOT PCRE2_FOUND)
  hob_fetch(pcre2 https://github.com/PCRE2Project/pcre2/releases/download/pcre2-10.42/pcre2-10.42.tar.gz
            c33b418e3b936ee3153de2c61cc638e7e4fe3156022a5c77d0711bcbb9d64f1f)
  # As its NON-AUTOTOOLS-BUILD says. Without the just-in-time compiler: executable memory at run
  # time is more than splitting words is worth.
  set(generated "${CMAKE_BINARY_DIR}/_deps/pcre2-generated")
  configure_file("${pcre2_SOURCE_DIR}/src/config.h.generic" "${generated}/config.h" COPYONLY)
  configure_file("${pcre2_SOURCE_DIR}/src/pcre2.h.generic" "${generated}/pcre2.h" COPYONLY)
  configure_file("${pcre2_SOURCE_DIR}/src/pcre2_chartables.c.dist" "${generated}/pcre2_chartables.c" COPYONLY)
  set(parts auto_possess compile config context convert dfa_match error extuni find_bracket jit_compile
      maketables match match_data newline ord2utf pattern_info script_run serialize string_utils study
      substitute substring tables ucd valid_utf xclass)
  list(TRANSFORM parts REPLACE "^(.+)$" "${pcre2_SOURCE_DIR}/src/pcre2_\\1.c")
  hob_bundle(hob_pcre2 ${parts} "${generated}/pcre2_chartables.c")
  target_include_directories(hob_pcre2 PRIVATE "${pcre2_SOURCE_DIR}/src" SYSTEM PUBLIC "${generated}")
  target_compile_definitions(hob_pcre2 PUBLIC PCRE2_STATIC
    PRIVATE HAVE_CONFIG_H HAVE_MEMMOVE SUPPORT_UNICODE PCRE2_CODE_UNIT_WIDTH=8)
endif()

if(NOT UTF8PROC_FOUND)
  hob_fetch(utf8proc https://github.com/JuliaStrings/utf8proc/archive/refs/tags/v2.8.0.tar.gz
            a0a60a79fe6f6d54e7d411facbfcc867a6e198608f2cd992490e46f04b1bcecc)
  hob_bundle(hob_utf8proc "${utf8proc_SOURCE_DIR}/utf8proc.c")
  target_include_directories(hob_utf8proc SYSTEM PUBLIC "${utf8proc_SOURCE_DIR}")
  target_compile_definitions(hob_utf8proc PUBLIC UTF8PROC_STATIC)
endif()

if(HOB_WITH_TBB AND NOT TBB_FOUND)
  hob_fetch(tbb https://github.com/uxlfoundation/oneTBB/archive/refs/tags/v2021.13.0.tar.gz
            3ad5dd08954b39d113dc5b3f8a8dc6dc1fd5250032b7c491eb07aed5c94133e1)
  function(hob_add_tbb)
    # oneTBB wants to be one shared library in a process, whatever we are.
    set(BUILD_SHARED_LIBS ON)
    set(TBB_TEST OFF)
    set(TBB_STRICT OFF)
    set(TBBMALLOC_BUILD OFF)
    hob_add_fetched(tbb)
  endfunction()
  hob_add_tbb()
  message(STATUS "hob: hob::tbb is not installed, since oneTBB is not")
endif()

if(HOB_BUILD_TOOLS AND NOT CLI11_FOUND)
  hob_fetch(cli11 https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
            f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a)
  add_library(hob_cli11 INTERFACE)
  add_library(CLI11::CLI11 ALIAS hob_cli11)
  target_include_directories(hob_cli11 SYSTEM INTERFACE "${cli11_SOURCE_DIR}/include")
endif()

if((HOB_BUILD_TOOLS OR HOB_BUILD_TESTS OR HOB_BUILD_BENCH) AND NOT nlohmann_json_FOUND)
  hob_fetch(json https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
            d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d)
  add_library(hob_json INTERFACE)
  add_library(nlohmann_json::nlohmann_json ALIAS hob_json)
  target_include_directories(hob_json SYSTEM INTERFACE "${json_SOURCE_DIR}/include")
endif()

if(HOB_BUILD_BENCH AND NOT benchmark_FOUND)
  hob_fetch(benchmark https://github.com/google/benchmark/archive/refs/tags/v1.9.0.tar.gz
            35a77f46cc782b16fac8d3b107fbfbb37dcd645f7c28eee19f3b8e0758b48994)
  function(hob_add_benchmark)
    set(BENCHMARK_ENABLE_TESTING OFF)
    set(BENCHMARK_ENABLE_WERROR OFF)
    hob_add_fetched(benchmark)
  endfunction()
  hob_add_benchmark()
endif()

if(HOB_BUILD_TESTS AND NOT GTest_FOUND)
  hob_fetch(googletest https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
            8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7)
  function(hob_add_googletest)
    set(BUILD_GMOCK OFF)
    set(BUILD_SHARED_LIBS OFF)
    hob_add_fetched(googletest)
  endfunction()
  hob_add_googletest()
  foreach(library gtest gtest_main)
    if(NOT TARGET GTest::${library})
      add_library(GTest::${library} ALIAS ${library})
    endif()
  endforeach()
endif()
