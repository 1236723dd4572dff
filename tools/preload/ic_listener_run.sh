#!/bin/sh
# Runs a command with libic_listener_preload.so preloaded: ic_listener_run(1). preload.mk fills in the paths.

library='@LIBDIR@/libic_listener_preload.so'
usage='usage: ic_listener_run [--] COMMAND [ARGUMENT...]
       ic_listener_run --check | --help | --version'

complain()
{
	echo "ic_listener_run: $1" >&2
}

# The statuses from 125 on are those of env(1).
refuse()
{
	complain "$1"
	exit 125
}

case ${1-} in
	--check) set -- '@BINDIR@/ic_ports' --check "$@" ;;
	--help) echo "$usage" && exit ;;
	--version) echo 'ic_listener_run @VERSION@' && exit ;;
	--) shift ;;
	-*) complain "$1: no such option" && set -- ;;
esac
[ $# -gt 0 ] || {
	echo "$usage" >&2
	exit 2
}

case $library in
	*[\ :]*) refuse "$library: a path with a space or a colon cannot stand in LD_PRELOAD" ;;
esac
[ -r "$library" ] || refuse "$library: cannot be read"
# The dynamic linker would only complain, and run the command without the library.
said=$(LD_PRELOAD=$library /bin/sh -c : 2>&1) || refuse "$library: cannot be loaded${said:+: $said}"
case $said in
	*'from LD_PRELOAD cannot be preloaded'*) refuse "$said" ;;
esac

# Names of commands that the shell has itself lead to no file here; they are dynamic programs elsewhere, too.
program=$(command -v -- "$1")
if [ -f "$program" ] && [ "$(head -c 4 "$program" 2>/dev/null | tail -c 3)" = ELF ]
then
	# The first match is the interpreter: /lib64/ld-linux-x86-64.so.2, /lib/ld64.so.1, /lib/ld-musl-x86_64.so.1.
	case $(grep -aom1 '/ld[-a-z0-9_]*\.so\.[0-9]' "$program" 2>/dev/null) in
		*musl*)
			! grep -aq 'libc\.so\.6' "$library" ||
				refuse "$1: uses musl, where this library of glibc cannot be loaded"
			;;
		'') complain "$1: statically linked, so that only the programs it starts are reached" ;;
	esac
	if { [ -u "$program" ] && [ ! -O "$program" ]; } || { [ -g "$program" ] && [ ! -G "$program" ]; }
	then
		complain "$1: set-user-ID or set-group-ID, so that the dynamic linker ignores LD_PRELOAD"
	fi
fi

# At the end: close to the kernel.
case ${LD_PRELOAD-} in
	*"$library"*) ;;
	*) export LD_PRELOAD="${LD_PRELOAD:+$LD_PRELOAD:}$library" ;;
esac
exec "$@"
