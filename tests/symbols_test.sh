#!/bin/sh
# Looks at the symbols of what was built: hob never opens a socket, and its shared libraries show
# nothing but hob_*. What is not called cannot be tested by running, but it can be read off the files.
# usage: symbols_test.sh NM FILE...      FILE: archives, shared libraries, programs
set -eu

nm=$1
shift
[ $# -gt 0 ] || { echo "no file to look at" >&2; exit 1; }
failed=0

complain() {  # message, symbols
  echo "$1:" >&2
  echo "$2" | sed 's/^/  /' >&2
  failed=1
}

# Prints the symbol names of nm's output, without their versions; fails if there are none.
symbols() {  # nm's options..., file
  listing=$("$nm" -P "$@") || { echo "$nm $* failed" >&2; exit 1; }
  names=$(echo "$listing" | awk 'NF >= 2 { sub(/@.*/, "", $1); print $1 }' | sort -u)
  [ -n "$names" ] || { echo "$nm $*: no symbols, so nothing was tested" >&2; exit 1; }
  echo "$names"
}

for file in "$@"; do
  [ -f "$file" ] || { echo "no such file: $file" >&2; exit 1; }
  case $file in
    *.a | *.o) dynamic= ;;
    *) dynamic=-D ;;
  esac

  undefined=$(symbols $dynamic -u "$file") || exit 1
  network=$(echo "$undefined" | grep -xE \
    'socket|socketpair|connect|bind|listen|accept4?|send|sendto|sendm?msg|recv|recvfrom|recvm?msg|(get|free)addrinfo|getnameinfo|gethostby.*|_*res_.*|inet_.*' ||
    true)
  [ -z "$network" ] || complain "$file uses the network" "$network"

  case $file in
    *.so | *.so.* | *.dylib)
      exported=$(symbols -D --defined-only "$file") || exit 1
      foreign=$(echo "$exported" | grep -v '^hob_' || true)
      [ -z "$foreign" ] || complain "$file exports more than hob_*" "$foreign"
      ;;
  esac
  echo "looked at $file: $(echo "$undefined" | wc -l) undefined symbols"
done
exit $failed
