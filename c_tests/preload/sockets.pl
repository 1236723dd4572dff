# As many listeners as there are ports, and as many connections to port 5000 of full_host.
use strict;
use warnings;
use IO::Socket::INET;

my @made;
while (my $listener = IO::Socket::INET->new(Listen => 5, Proto => 'tcp')) { push @made, $listener; }
print scalar(@made), " listeners, $!\n";
@made = ();
while (my $connection = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 5000)) { push @made, $connection; }
print scalar(@made), " connections, $!\n";
