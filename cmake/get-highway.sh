#!/bin/sh
# Debian 12 has Highway 1.0; hob needs 1.2. This fetches the source of a later release's package from
# the mirror that apt is set up to use, so it works wherever apt does. Nothing is installed and
# apt's own lists are left alone: it all happens in a temporary directory.
# usage: get-highway.sh [DIRECTORY [SUITE]]      default: build/_deps/highway trixie
set -eu

directory=${1:-build/_deps/highway}
suite=${2:-trixie}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
  echo "get-highway.sh: $*" >&2
  exit 1
}

new_enough() {  # of the source tree $1
  [ -f "$1/hwy/base.h" ] && awk '
    $1 == "#define" && $2 == "HWY_MAJOR" { major = $3 }
    $1 == "#define" && $2 == "HWY_MINOR" { minor = $3 }
    END { exit !(major > 1 || major == 1 && minor >= 2) }' "$1/hwy/base.h"
}

if new_enough "$directory"; then
  exit 0
fi
command -v apt-get >/dev/null || fail "no apt-get here; set HOB_HIGHWAY_DIR to a source tree of Highway >= 1.2"

# What apt knows of the mirrors: one line for each index, of which only Debian's main archive serves.
mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' |
  awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }')
[ -n "$mirror" ] || fail "apt has no Debian archive with downloaded lists; run apt-get update first"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/lists/partial" "$work/sources" "$work/package" "$work/tree"
{
  echo "Types: deb-src"
  echo "URIs: $mirror"
  echo "Suites: $suite"
  echo "Components: main"
  if [ -f "$keyring" ]; then
    echo "Signed-By: $keyring"
  fi
} >"$work/sources/later.sources"

# The sandbox user of apt could not read our directory.
private_apt() {
  apt-get -q -o Dir::State::Lists="$work/lists" -o Dir::Etc::SourceList=/dev/null \
    -o Dir::Etc::SourceParts="$work/sources" -o APT::Sandbox::User="$(id -un)" "$@" >"$work/log" 2>&1
}

step() {
  what=$1
  shift
  "$@" || {
    cat "$work/log" >&2
    fail "could not $what"
  }
}

step "read the index of $suite" private_apt update
cd "$work/package"
step "download the source package highway of $suite" private_apt source --download-only highway
cd - >/dev/null
tar -xf "$work"/package/highway_*.orig.tar.* -C "$work/tree" --strip-components=1
new_enough "$work/tree" || fail "the highway of $suite is older than 1.2"

mkdir -p "$(dirname "$directory")"
rm -rf "$directory"
mv "$work/tree" "$directory"
