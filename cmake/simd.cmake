# Which SIMD targets are compiled, and Highway, with which they are. Defines
#   hob_simd      what our sources that include Highway are compiled with
#   hob_int8_options  with what besides, those that are the same on the best targets as on AVX3_DL:
#                 fewer targets, since FindKernels (kernels/targets.h) takes the next best
#   HOB_HIGHWAY   what a library of them stands on: the few sources of Highway that are needed, to
#                 be compiled in, or the installed library

# Best first, and those of Highway's targets between them that are left out.
string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" hob_processor)
if(hob_processor MATCHES "^(x86_64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  # AVX3_SPR would have f16 arithmetic, which has no part in hob, and Intel's bf16 dot, which takes
  # twice as long as the two fused multiply-adds that it stands for (docs/matmul.md). The SSE targets,
  # below the baseline, have no fused multiply-add, of which every result of hob is made; on a CPU
  # without AVX2 the scalar reference serves.
  set(hob_all_targets AVX3_ZEN4 AVX3_DL AVX3 AVX2)
  set(hob_left_out AVX3_SPR)
elseif(hob_processor MATCHES "^(aarch64|arm64)$")
  # HWY_NEON is NEON with AES, of which the kernels have no use; NEON_WITHOUT_AES is our "neon".
  set(hob_all_targets SVE2_128 SVE_256 SVE2 SVE NEON_BF16 NEON_WITHOUT_AES)
  set(hob_left_out NEON)
else()
  set(hob_all_targets)
endif()

add_library(hob_simd INTERFACE)
if(hob_all_targets)
  set(hob_chosen ${hob_all_targets})
  if(HOB_TARGETS)
    set(hob_chosen)
    string(TOUPPER "${HOB_TARGETS}" hob_wanted)
    string(REPLACE "," ";" hob_wanted "${hob_wanted}")
    list(TRANSFORM hob_wanted REPLACE "^NEON$" "NEON_WITHOUT_AES")
    foreach(target IN LISTS hob_all_targets)
      if(target IN_LIST hob_wanted)
        list(APPEND hob_chosen ${target})
        list(REMOVE_ITEM hob_wanted ${target})
      endif()
    endforeach()
    if(hob_wanted)
      list(JOIN hob_all_targets " " hob_known)
      string(TOLOWER "${hob_wanted}; known here: ${hob_known}" hob_wanted)
      message(FATAL_ERROR "HOB_TARGETS: unknown target ${hob_wanted}")
    endif()
  endif()
  # Highway compiles what is at least as good as the baseline and not disabled. We call kernels
  # through a table of our own, so this baseline is only a lower bound of what is generated, not a
  # demand on the CPU (highway's own targets.cc, which does take it as one, never sees it).
  list(GET hob_chosen -1 hob_baseline)
  set(hob_disabled ${hob_all_targets} ${hob_left_out})
  list(REMOVE_ITEM hob_disabled ${hob_chosen})
  list(TRANSFORM hob_disabled PREPEND "HWY_")
  list(JOIN hob_disabled "|" hob_disabled)
  target_compile_definitions(hob_simd INTERFACE
    HWY_WANT_AVX3_DL "HWY_BASELINE_TARGETS=HWY_${hob_baseline}" "HWY_DISABLED_TARGETS=(${hob_disabled})")
  if(AVX3_DL IN_LIST hob_chosen)
    set(hob_int8_options -UHWY_DISABLED_TARGETS
      "-DHWY_DISABLED_TARGETS=(${hob_disabled}|HWY_AVX3_ZEN4)")
  endif()
else()
  # No vector code for this CPU yet: the scalar reference serves.
  message(STATUS "hob: no SIMD targets for ${CMAKE_SYSTEM_PROCESSOR}, only the scalar reference")
  target_compile_definitions(hob_simd INTERFACE HWY_COMPILE_ONLY_SCALAR)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC explains at length that vectors are passed differently since version 4.6; nobody calls
  # across that border here.
  target_compile_options(hob_simd INTERFACE -Wno-psabi)
endif()

if(HOB_HIGHWAY_SOURCE)
  # Our copy goes by a name of its own, so that a program may contain another version of Highway.
  set(definitions hwy=hob_hwy HWY_STATIC_DEFINE)
  hob_bundle(hob_highway
    "${HOB_HIGHWAY_SOURCE}/hwy/abort.cc"
    "${HOB_HIGHWAY_SOURCE}/hwy/per_target.cc"
    "${HOB_HIGHWAY_SOURCE}/hwy/targets.cc")
  target_include_directories(hob_highway PRIVATE "${HOB_HIGHWAY_SOURCE}")
  target_compile_definitions(hob_highway PRIVATE ${definitions})
  target_include_directories(hob_simd SYSTEM INTERFACE "${HOB_HIGHWAY_SOURCE}")
  target_compile_definitions(hob_simd INTERFACE ${definitions})
  set(HOB_HIGHWAY hob_highway)
else()
  target_link_libraries(hob_simd INTERFACE hwy::hwy)
  set(HOB_HIGHWAY hwy::hwy)
endif()
