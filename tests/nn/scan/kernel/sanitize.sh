#!/bin/sh
# Run the C kernel against plain loops under the address, leak, undefined-behaviour and thread sanitizers: every
# instruction set of this processor, and plain C. PYTHON names the interpreter (it needs its headers and libpython), CC
# the compiler (default: gcc).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
cc=${CC:-gcc}
ask() { "$python" -c "import sysconfig; print($1)"; }
include=$(ask 'sysconfig.get_path("include")')
libdir=$(ask 'sysconfig.get_config_var("LIBDIR")')
version=$(ask 'sysconfig.get_config_var("LDVERSION")')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for flags in "-fsanitize=address,undefined" "-fsanitize=address,undefined -DSCAN_PLAIN_C" "-fsanitize=thread"; do
    echo "== $flags"
    # shellcheck disable=SC2086
    "$cc" -g -O1 -Wno-psabi -fno-sanitize-recover=all $flags -I"$include" -I"$here/../../../../lightning_alrnn/nn/scan" \
        "$here/cross_check.c" -o "$work/check" -L"$libdir" "-lpython$version" -Wl,-rpath,"$libdir" -lm -pthread
    "$work/check"
done
