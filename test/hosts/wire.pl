#!/usr/bin/perl
# A wire between two network interfaces with rate, delay and loss, for kernels without netem.
#   wire.pl IFACE IFACE BITS_A_SECOND ONE_WAY_SECONDS LOSS QUEUE_SECONDS SLOW_BITS_A_SECOND WALL
# It takes whole frames from each interface (packet(7)) and gives them to the other one when they
# would have arrived: a frame begins when the one before has been sent, takes its bits over the
# rate, and then the delay. What would have to wait longer than the queue allows is dropped.
# A rate of 0 is none. With a WALL of 1 TCP and UDP pass from the first to the second only in answer
# to what went the other way between the same two ports. SIGUSR1 cuts the wire, SIGUSR2 joins it, SIGHUP makes it a slow one whose
# queue is a minute, SIGTERM ends it.
use strict;
use warnings;
use Socket;
use Time::HiRes qw(time);

my ($left, $right, $rate, $delay, $loss, $queue, $slow, $wall) = @ARGV;
my ($AF_PACKET, $ALL, $OUTGOING, $SIOCGIFINDEX) = (17, 0x0003, 4, 0x8933);
my ($is_cut, $is_over) = (0, 0);
$SIG{USR1} = sub { $is_cut = 1 };
$SIG{USR2} = sub { $is_cut = 0 };
$SIG{HUP} = sub { ($rate, $queue) = ($slow, 60) };
$SIG{TERM} = sub { $is_over = 1 };
srand 1;

sub tap {
  my ($name) = @_;
  socket(my $tap, $AF_PACKET, SOCK_RAW, unpack('S', pack('n', $ALL))) or die "socket: $!";
  my $request = pack('a16 x24', $name);
  ioctl($tap, $SIOCGIFINDEX, $request) or die "$name: $!";
  my $index = unpack('x16 i', $request);
  setsockopt($tap, SOL_SOCKET, SO_RCVBUF, pack('i', 16 << 20));
  bind($tap, pack('S n i S C C a8', $AF_PACKET, $ALL, $index, 0, 0, 0, '')) or die "$name: $!";
  $tap->blocking(0);
  return $tap;
}

# Both ends of what a frame is of, the one behind the wall first; undef: neither TCP nor UDP.
sub ends {
  my ($frame, $is_inward) = @_;
  return undef unless unpack('x12 n', $frame) == 0x0800;
  my ($head, $protocol, $from, $to) = unpack 'x14 C x8 C x2 a4 a4', $frame;
  return undef unless $protocol == 6 || $protocol == 17;
  my ($of, $at) = unpack 'x' . (14 + ($head & 15) * 4) . ' a2 a2', $frame;
  return $protocol . ($is_inward ? $to . $at . $from . $of : $from . $of . $to . $at);
}

my %went;
my @taps = (tap($left), tap($right));
# For each way: when the last frame has been sent, and what is under way as [due, frame].
my @free = (0, 0);
my @way = ([], []);
my $want = '';
vec($want, fileno($_), 1) = 1 for @taps;
$| = 1;
print "ready\n";

until ($is_over) {
  my $now = time;
  my $next = $now + 1;
  for my $n (0, 1) {
    my $frames = $way[$n];
    while (@$frames && $frames->[0][0] <= $now) {
      my $frame = shift(@$frames)->[1];
      send($taps[1 - $n], $frame, 0) unless $is_cut;
    }
    $next = $frames->[0][0] if @$frames && $frames->[0][0] < $next;
  }
  my $wait = $next - time;
  select(my $ready = $want, undef, undef, $wait > 0 ? $wait : 0);
  $now = time;
  for my $n (0, 1) {
    next unless vec($ready, fileno($taps[$n]), 1);
    for (1 .. 64) {
      my $from = recv($taps[$n], my $frame, 65_600, 0);
      last unless defined $from;
      next if (unpack 'S n i S C', $from)[4] == $OUTGOING;
      next if $is_cut || ($loss > 0 && rand() < $loss);
      if ($wall) {
        my $ends = ends($frame, $n == 0);
        $went{$ends} = 1 if $n == 1 && defined $ends;
        next if $n == 0 && defined $ends && !$went{$ends};
      }
      my $start = $free[$n] > $now ? $free[$n] : $now;
      next if $start - $now > $queue;
      $free[$n] = $start + ($rate > 0 ? length($frame) * 8 / $rate : 0);
      push @{ $way[$n] }, [$free[$n] + $delay, $frame];
    }
  }
}
