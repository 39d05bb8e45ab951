# ggml, for bench/compare_ggml and nothing else: never fetched, never needed to build or use hob.
# HOB_BENCH_GGML is an installation's prefix, or the source of ggml or llama.cpp, which is then built
# as its own users would on this machine. Defines hob_ggml.

add_library(hob_ggml INTERFACE)
set(hob_ggml_source)
foreach(dir IN ITEMS "${HOB_BENCH_GGML}/ggml" "${HOB_BENCH_GGML}")
  if(NOT hob_ggml_source AND EXISTS "${dir}/CMakeLists.txt" AND EXISTS "${dir}/include/ggml.h")
    set(hob_ggml_source "${dir}")
  endif()
endforeach()

if(hob_ggml_source)
  # Tuned for this CPU; llama.cpp's default for LLAMAFILE; threads of its own, since those of OpenMP
  # keep a CPU busy while it is hob's turn. A -D on the command line has the last word.
  function(hob_add_ggml)
    set(BUILD_SHARED_LIBS OFF)
    foreach(option IN ITEMS NATIVE=ON LLAMAFILE=ON OPENMP=OFF BUILD_TESTS=OFF BUILD_EXAMPLES=OFF)
      string(REGEX MATCH "^(.*)=(.*)$" unused "${option}")
      if(NOT DEFINED CACHE{GGML_${CMAKE_MATCH_1}})
        set(GGML_${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
      endif()
    endforeach()
    add_subdirectory("${hob_ggml_source}" "${CMAKE_CURRENT_BINARY_DIR}/ggml" EXCLUDE_FROM_ALL SYSTEM)
  endfunction()
  hob_add_ggml()
  target_link_libraries(hob_ggml INTERFACE ggml)
else()
  find_package(ggml CONFIG REQUIRED PATHS "${HOB_BENCH_GGML}" NO_DEFAULT_PATH)
  target_link_libraries(hob_ggml INTERFACE ggml::ggml)
endif()
