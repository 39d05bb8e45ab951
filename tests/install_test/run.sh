#!/bin/sh
# Installs the build into a directory of its own and uses it as a stranger would: with find_package,
# with pkg-config, and as a subdirectory.
# usage: run.sh CMAKE SOURCE BUILD WORK CC CXX
set -eu

cmake=$1 source=$2 build=$3 work=$4 cc=$5 cxx=$6
here=$source/tests/install_test
export CC="$cc" CXX="$cxx"
rm -rf "$work"
mkdir -p "$work"

echo "== install"
"$cmake" --install "$build" --prefix "$work/prefix" >"$work/install.log"
libraries=$(dirname "$(find "$work/prefix" -name 'libhob_kernels.*' | head -n 1)")
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

echo "== find_package"
"$cmake" -S "$here" -B "$work/find" -DCMAKE_PREFIX_PATH="$work/prefix"
"$cmake" --build "$work/find"
"$work/find/kernels_user"
"$work/find/runtime_user"

echo "== moved"
# Nothing installed may remember where it was installed.
mv "$work/prefix" "$work/moved"
libraries=$work/moved${libraries#"$work/prefix"}
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
"$work/moved/bin/hob" --version
"$cmake" -S "$here" -B "$work/find-moved" -DCMAKE_PREFIX_PATH="$work/moved" >/dev/null
"$cmake" --build "$work/find-moved" --target kernels_user >/dev/null
"$work/find-moved/kernels_user"

echo "== pkg-config"
if command -v pkg-config >/dev/null; then
  export PKG_CONFIG_PATH="$libraries/pkgconfig"
  "$cc" -std=c11 -Wall -Wextra -Werror -o "$work/kernels_user" "$here/kernels_user.c" \
    $(pkg-config --cflags --libs hob-kernels)
  "$work/kernels_user"
  tbb=
  if [ -f "$PKG_CONFIG_PATH/hob-tbb.pc" ]; then
    tbb="-DWITH_TBB $(pkg-config --cflags --libs hob-tbb)"
  fi
  "$cxx" -std=c++20 -Wall -Wextra -Werror -o "$work/runtime_user" "$here/runtime_user.cc" $tbb \
    $(pkg-config --cflags --libs hob)
  "$work/runtime_user"
else
  echo "no pkg-config here: skipped"
fi

echo "== subdirectory"
"$cmake" -S "$here" -B "$work/subdirectory" -DHOB_SUBDIRECTORY="$source" >/dev/null
# The user's own files must be compiled as the user says.
if grep -A 1 '"directory"' "$work/subdirectory/compile_commands.json" | grep '_user\.' |
  grep -E 'ffp-contract|-Wall|fvisibility'; then
  echo "hob's flags leak into the project that takes it in" >&2
  exit 1
fi
