# How hob's own targets are compiled. Flags are set target by target, never for the directory, so
# that nothing leaks into a project that adds hob as a subdirectory.

# hob_defaults(TARGET): language level, flags and include directories of all our code.
function(hob_defaults target)
  set_target_properties(${target} PROPERTIES
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
    C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden C_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    # Static libraries too: they end up in other people's shared ones.
    POSITION_INDEPENDENT_CODE ON UNITY_BUILD OFF)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE
    # A matter of correctness. A result of hob is a fixed sequence of IEEE operations, fused only
    # where the source says so. Left to themselves, compilers fuse a multiplication and an addition
    # where the instruction set has that and not where it lacks it, and the bits would differ
    # between targets and compilers.
    "$<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off;-Wall;-Wextra>")
  # There is no -march here, ever: what runs is chosen at run time, and the rest must run everywhere.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 sees overlapping copies inside std::string that are not there (its bug 105651).
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>")
  endif()
  if(HOB_WERROR)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:C,CXX>:-Werror>")
  endif()
  if(HOB_SANITIZE)
    target_compile_options(${target} PRIVATE
      "$<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${HOB_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
    target_link_options(${target} PRIVATE "-fsanitize=${HOB_SANITIZE}")
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND HOB_SANITIZE MATCHES "thread")
      # GCC warns that the sanitizer does not see what a fence orders. No data of ours is passed by
      # a fence alone: runtime/region.cc has them only so that no sleeper is overlooked.
      target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>")
    endif()
  endif()
endfunction()

# hob_export_only(TARGET): a shared library shows the C interface and nothing else. Visibility alone
# does not do it: the C++ library's templates that we instantiate are visible by their own decree.
function(hob_export_only target)
  set(map "${PROJECT_SOURCE_DIR}/cmake/exports.map")
  if(APPLE)
    target_link_options(${target} PRIVATE "LINKER:-exported_symbol,_hob_*")
  elseif(UNIX)
    target_link_options(${target} PRIVATE "LINKER:--version-script=${map}")
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${map}")
  endif()
endfunction()

# hob_library(NAME SOURCES...): a public library hob_<NAME>, alias hob::<NAME>.
# Its sources are compiled once. Tests look at internals, which a shared library hides; they link
# hob_<NAME>_internal, a static twin in a shared build and the library itself in a static one.
function(hob_library name)
  set(objects hob_${name}_objects)
  add_library(${objects} OBJECT ${ARGN})
  hob_defaults(${objects})
  target_compile_definitions(${objects} PRIVATE HOB_BUILD)

  add_library(hob_${name} $<TARGET_OBJECTS:${objects}>)
  add_library(hob::${name} ALIAS hob_${name})
  set(forms hob_${name})
  get_target_property(type hob_${name} TYPE)
  if(type STREQUAL "SHARED_LIBRARY")
    hob_export_only(hob_${name})
    add_library(hob_${name}_internal STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:${objects}>)
    list(APPEND forms hob_${name}_internal)
  else()
    add_library(hob_${name}_internal ALIAS hob_${name})
  endif()
  foreach(form IN LISTS forms)
    target_include_directories(${form} PUBLIC
      "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
    set_target_properties(${form} PROPERTIES
      LINKER_LANGUAGE CXX EXPORT_NAME ${name} VERSION ${PROJECT_VERSION}
      # Before 1.0 a minor version may break the binary interface.
      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
    if(HOB_SANITIZE)
      target_link_options(${form} PUBLIC "$<BUILD_INTERFACE:-fsanitize=${HOB_SANITIZE}>")
    endif()
  endforeach()
endfunction()

# hob_link(NAME [ON hob libraries...] [TAKE_IN] [LIBRARIES others...]): what hob_<NAME> stands on.
# ON: libraries of ours whose internals are used. Static libraries just link them. Shared ones hide
# their internals, so there the library takes in their objects (TAKE_IN), or else uses only what
# is exported and finds it in whichever of hob's shared libraries the program has loaded.
# LIBRARIES: dependencies, which nobody else needs to see. Of an object library (one that was
# fetched, see hob_bundle) the objects are taken in.
function(hob_link name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TAKE_IN" "" "ON;LIBRARIES")
  set(bundled)
  set(linked)
  foreach(library IN LISTS arg_LIBRARIES)
    get_target_property(type ${library} TYPE)
    if(type STREQUAL "OBJECT_LIBRARY")
      list(APPEND bundled ${library})
    else()
      list(APPEND linked ${library})
    endif()
  endforeach()
  set_property(TARGET hob_${name} PROPERTY HOB_LINKED ${linked})
  set_property(TARGET hob_${name} PROPERTY HOB_BUNDLED ${bundled})
  target_link_libraries(hob_${name}_objects PRIVATE ${arg_LIBRARIES})

  get_target_property(type hob_${name} TYPE)
  foreach(other IN LISTS arg_ON)
    if(NOT type STREQUAL "SHARED_LIBRARY")
      target_link_libraries(hob_${name} PUBLIC hob::${other})
    else()
      target_link_libraries(hob_${name}_internal PUBLIC hob_${other}_internal)
      if(arg_TAKE_IN)
        get_property(others_bundled TARGET hob_${other} PROPERTY HOB_BUNDLED)
        foreach(objects IN LISTS others_bundled ITEMS hob_${other}_objects)
          target_sources(hob_${name} PRIVATE $<TARGET_OBJECTS:${objects}>)
        endforeach()
        get_property(others_linked TARGET hob_${other} PROPERTY HOB_LINKED)
        target_link_libraries(hob_${name} PRIVATE ${others_linked})
      endif()
    endif()
  endforeach()

  foreach(form hob_${name} hob_${name}_internal)
    get_target_property(alias ${form} ALIASED_TARGET)
    if(NOT alias)
      target_link_libraries(${form} PRIVATE ${linked})
      foreach(objects IN LISTS bundled)
        target_sources(${form} PRIVATE $<TARGET_OBJECTS:${objects}>)
      endforeach()
    endif()
  endforeach()
endfunction()
