#!/usr/bin/perl
# Writes a C program that calls every function of <math.h> and <complex.h>, as this system's headers declare them, and
# the functions of libgcc that arithmetic takes (complex and 128-bit), with a table of values. It prints a line for
# each: the name, how many calls, and a hash of the bits of all results, of errno and of the floating-point exceptions.
#
#	cc -D_GNU_SOURCE -E -P -xc - <<<'#include <math.h> ...' | libm_calls.pl >program.c
use strict;
use warnings;

my %halves = (
	'float' => 4, 'double' => 8, 'long double' => 10,
	'_Float32' => 4, '_Float64' => 8, '_Float32x' => 8, '_Float64x' => 10, '_Float128' => 16);
my %integers = map { $_ => 1 } ('int', 'long int', 'long long int', 'unsigned int', 'intmax_t', 'uintmax_t', '__intmax_t', '__uintmax_t');

my %seen;
my (@functions, @unknown);

# The name of a parameter, __x, is not part of its type; nor are an attribute and what stands in for a qualifier.
sub type
{
	my $type = shift;
	$type =~ s/\b__restrict\b|\b__(?!u?intmax_t)\w+\b//g;
	$type =~ s/\s+/ /g;
	$type =~ s/^ | $//g;
	$type =~ s/^_Complex (.*)/$1 _Complex/;
	return $type;
}

local $/;
for my $declaration (split /;/, <STDIN>)
{
	$declaration =~ s/\s+/ /g;
	$declaration =~ s/__attribute__ ?\(\((?:[^()]|\([^()]*\))*\)\)|__extension__//g;
	next unless $declaration =~ /^ ?extern (.+?) ?\b([a-z]\w*) ?\((.*)\) *$/;
	my ($result, $name, $parameters) = (type($1), $2, $3);
	next if $seen{$name}++;
	my @parameters = map { type($_) } split /,/, $parameters;
	if (grep { !known($_) } $result, @parameters)
	{
		push @unknown, "$name: $declaration";
		next;
	}
	push @functions, [$result, $name, @parameters];
}
die "unknown types:\n", map { "  $_\n" } @unknown if @unknown;

sub base { my $type = shift; $type =~ s/ ?_Complex//; return $type; }

sub known
{
	my $type = shift;
	return 1 if $type =~ /^void$|^const char ?\*$/ || $integers{$type} || $halves{ base($type) };
	return $type =~ /^(?:const )?(.*\S) ?\*$/ && ($integers{$1} || $halves{$1});
}

# The statement that hashes a variable: a long double has padding.
sub hash_of
{
	my ($type, $variable) = @_;
	my $base = base($type);
	return "hash_bytes(&$variable, sizeof $variable);" if !$halves{$base};
	return "hash_bytes(&$variable, $halves{$base});" if $base eq $type;
	return "hash_bytes(&$variable, $halves{$base}); hash_bytes(($base *) &$variable + 1, $halves{$base});";
}

print <<'END';
#include <complex.h>
#include <errno.h>
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#ifdef WITH_IC_LISTENER
#include <ic_listener.h>
#include <unistd.h>
#endif

static volatile double values[] = {
	0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.7, 7.0, 10.1, 1e-310, 1e300, -1e16, 27.0, 170.5, INFINITY, -INFINITY, NAN
};
static volatile int integers[] = {0, 1, -1, 2, 7, -1100, 1030, 2000};

#define VALUES ((int) (sizeof(values) / sizeof(values[0])))
#define INTEGERS ((int) (sizeof(integers) / sizeof(integers[0])))
/* Of two complex arguments, every third value will do. */
#define STEP 3

static uint64_t hash;
static unsigned long calls;

static void
hash_bytes(const void *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ ((const unsigned char *) bytes)[i]) * UINT64_C(0x100000001b3);
}

static void
start(void)
{
	hash = UINT64_C(0xcbf29ce484222325);
	calls = 0;
}

static void
before_call(void)
{
	errno = 0;
	feclearexcept(FE_ALL_EXCEPT);
}

static void
after_call(void)
{
	int			state[2] = {errno, fetestexcept(FE_ALL_EXCEPT)};

	hash_bytes(state, sizeof(state));
	calls++;
}

static void
finish(const char *name)
{
	printf("%s %lu %016llx\n", name, calls, (unsigned long long) hash);
}

END

# One loop for each number that the arguments are made of, then the call.
sub emit
{
	my ($name, $result, $call, @parameters) = @_;
	my (@loops, @arguments, @made, @outputs);
	my $complex = grep { /_Complex/ } @parameters;
	for my $n (0 .. $#parameters)
	{
		my $type = $parameters[$n];
		my $step = $complex > 1 ? 'STEP' : 1;
		if ($type =~ /char/)
		{
			push @arguments, '"0x2a"';
		}
		elsif ($type =~ /^const (.*\S) ?\*$/)
		{
			push @loops, "for (int v$n = 0; v$n < VALUES; v$n++)";
			push @made, "$1 in$n = ($1) values[v$n];";
			push @arguments, "&in$n";
		}
		elsif ($type =~ /^(.*\S) ?\*$/)
		{
			push @made, "$1 out$n = 0;";
			push @outputs, hash_of($1, "out$n");
			push @arguments, "&out$n";
		}
		elsif ($integers{$type})
		{
			push @loops, "for (int i$n = 0; i$n < INTEGERS; i$n++)";
			push @arguments, "($type) integers[i$n]";
		}
		elsif ($type =~ /_Complex/)
		{
			my $base = base($type);
			push @loops, "for (int r$n = 0; r$n < VALUES; r$n += $step)", "for (int i$n = 0; i$n < VALUES; i$n += $step)";
			push @made, "$type z$n; (($base *) &z$n)[0] = ($base) values[r$n]; (($base *) &z$n)[1] = ($base) values[i$n];";
			push @arguments, "z$n";
		}
		else
		{
			push @loops, "for (int v$n = 0; v$n < VALUES; v$n++)";
			push @arguments, "($type) values[v$n]";
		}
	}
	print "static void\ncall_$name(void)\n{\n\tstart();\n";
	print "\t$_\n" for @loops;
	print "\t{\n";
	print "\t\t$_\n" for @made;
	my $assign = $result eq 'void' ? '' : "$result result = ";
	print "\t\tbefore_call();\n\t\t$assign", $call->(@arguments), ";\n\t\tafter_call();\n";
	print "\t\t", hash_of($result, 'result'), "\n" if $assign;
	print "\t\t$_\n" for @outputs;
	print "\t}\n\tfinish(\"$name\");\n}\n\n";
	return $name;
}

my @names;
for my $function (@functions)
{
	my ($result, $name, @parameters) = @$function;
	push @names, emit($name, $result, sub { "$name(" . join(', ', @_) . ')' }, @parameters);
}
for my $base ('float', 'double', 'long double', '_Float128')
{
	my $suffix = $base =~ s/ /_/r;
	my $type = "$base _Complex";
	for my $operation ([ 'multiply', '*' ], [ 'divide', '/' ])
	{
		push @names, emit("operator_$operation->[0]_$suffix", $type, sub { "$_[0] $operation->[1] $_[1]" }, $type, $type);
	}
	push @names, emit("operator_to_int128_$suffix", '__int128', sub { "fabsl($_[0]) < 1e30L ? (__int128) ($_[0]) : 0" }, $base);
	push @names, emit("operator_from_int128_$suffix", $base, sub { "($base) ((__int128) $_[0] * $_[1] * 1000003)" }, 'int', 'int');
}
for my $operation ([ 'divide', '/' ], [ 'remainder', '%' ])
{
	push @names, emit("operator_$operation->[0]_int128", '__int128',
		sub { "((__int128) $_[0] << 70) $operation->[1] ((__int128) $_[1] * 3 + 1)" }, 'int', 'int');
}

print "int\nmain(void)\n{\n";
print <<'END';
#ifdef WITH_IC_LISTENER
	int			port;
	int			fd;

	if (setup_listener(&port, &fd) != 0)
		return 1;
	close(fd);
#endif
END
print "\tcall_$_();\n" for @names;
print "\treturn 0;\n}\n";
