# Headers, libraries, the program, and how others find them: find_package(hob) and pkg-config.
include(CMakePackageConfigHelpers)

set(config_dir "${CMAKE_INSTALL_LIBDIR}/cmake/hob")
set(libraries kernels runtime)
set(headers hob.h formats.def model.h hob.hpp)
# A fetched oneTBB is for the build tree only, and what links it cannot leave without it.
if(HOB_WITH_TBB AND TBB_FOUND)
  list(APPEND libraries tbb)
  list(APPEND headers tbb.h)
endif()

foreach(header IN LISTS headers)
  install(FILES "include/hob/${header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/hob")
endforeach()

# An export set for each library, so that those who want the kernels alone need nothing else.
foreach(library IN LISTS libraries)
  install(TARGETS hob_${library} EXPORT hob-${library}
          LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  install(EXPORT hob-${library} NAMESPACE hob:: DESTINATION "${config_dir}")
endforeach()
if(TARGET hob_cli)
  install(TARGETS hob_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()

# What an installed static library still needs of the system; a shared one has it inside.
set(kernels_needs)
set(runtime_needs)
set(tbb_needs)
if(NOT BUILD_SHARED_LIBS)
  if(NOT TARGET hob_highway)
    list(APPEND kernels_needs hwy)
  endif()
  if(PCRE2_FOUND)
    list(APPEND runtime_needs PCRE2)
  endif()
  if(UTF8PROC_FOUND)
    list(APPEND runtime_needs UTF8PROC)
  endif()
  list(APPEND tbb_needs TBB)
endif()

configure_package_config_file(cmake/hobConfig.cmake.in "${PROJECT_BINARY_DIR}/hobConfig.cmake"
  INSTALL_DESTINATION "${config_dir}" NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/hobConfigVersion.cmake"
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/hobConfig.cmake" "${PROJECT_BINARY_DIR}/hobConfigVersion.cmake"
              cmake/FindPCRE2.cmake cmake/FindUTF8PROC.cmake
        DESTINATION "${config_dir}")

# pkg-config. A static library cannot say itself what it needs; where only that is installed, the
# public fields of its .pc file do, so that plain `pkg-config --libs hob` is enough.
file(RELATIVE_PATH pc_prefix "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
set(pc_system)
if(NOT BUILD_SHARED_LIBS)
  foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
    if(library MATCHES "^(stdc[+][+]|c[+][+]|m)$")
      string(APPEND pc_system " -l${library}")
    endif()
  endforeach()
endif()
set(pc_names_hwy libhwy)
set(pc_names_PCRE2 libpcre2-8)
set(pc_names_UTF8PROC libutf8proc)
set(pc_names_TBB tbb)
foreach(library IN LISTS libraries)
  set(pc_needs)
  foreach(need IN LISTS ${library}_needs)
    string(APPEND pc_needs " ${pc_names_${need}}")
  endforeach()
  set(file hob-${library}.pc)
  if(library STREQUAL "runtime")
    set(file hob.pc)
  endif()
  configure_file(cmake/hob-${library}.pc.in "${PROJECT_BINARY_DIR}/${file}" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${file}" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endforeach()
