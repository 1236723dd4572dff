#!/bin/sh
# abi.sh [CC OPTION...]: prints what a compiled caller has of the C interface in its code, in one line each: a struct and
# its size; a member, its offset and its size; a constant and its value. `make abi` calls it; install.sh holds the
# answer to abi.txt, and to abi32.txt where the compiler makes 32-bit programs. For another processor, EMULATOR runs it.
set -eu

cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The header is cbindgen's: one member or constant in a line.
awk '
	BEGIN {
		print "#include <stddef.h>\n#include <stdio.h>\n#include <ic_listener.h>\n\nint\nmain(void)\n{"
	}
	/^typedef struct / { struct = $3; printf "\tprintf(\"%s %%zu\\n\", sizeof(%s));\n", struct, struct }
	/^}/ { struct = "" }
	struct != "" && /^    [a-z].*;$/ {
		sub(/(\[.*\])?;$/, "")
		sub(/.*[ *]/, "")
		printf "\tprintf(\"%s.%s %%zu %%zu\\n\", offsetof(%s, %s), sizeof(((%s *) 0)->%s));\n", struct, $0, struct, $0, struct, $0
	}
	/^    IC_LISTENER_[A-Z_]* = / || /^#define IC_LISTENER_[A-Z_]*_SIZE / {
		name = $1 == "#define" ? $2 : $1
		printf "\tprintf(\"%s %%d\\n\", %s);\n", name, name
	}
	END { print "\treturn 0;\n}" }
' include/ic_listener.h >"$work/abi.c"
"${CC:-cc}" "$@" -Wall -Wextra -Werror -Iinclude -o "$work/abi" "$work/abi.c"
${EMULATOR:-} "$work/abi"
