# Arm, 64 bits, from another machine: Debian's g++-aarch64-linux-gnu, libraries of the foreign
# architecture beside the native ones (dpkg --add-architecture arm64), tests under QEMU.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
# QEMU_CPU in the environment chooses the processor.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
