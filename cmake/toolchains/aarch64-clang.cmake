# As aarch64-gcc.cmake, with clang, which knows bf16 (NEON_BF16) where GCC 12 does not. It borrows
# the C++ library of g++-aarch64-linux-gnu.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
find_program(HOB_CLANG NAMES clang-19 clang REQUIRED)
find_program(HOB_CLANGXX NAMES clang++-19 clang++ REQUIRED)
set(CMAKE_C_COMPILER "${HOB_CLANG}")
set(CMAKE_CXX_COMPILER "${HOB_CLANGXX}")
set(CMAKE_ASM_COMPILER "${HOB_CLANG}")
set(CMAKE_C_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_CXX_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_ASM_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
