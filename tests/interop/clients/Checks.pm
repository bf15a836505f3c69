# What the clients in Perl share: the checks' names, and how their results are printed.
package Checks;
use strict;
use warnings;
use utf8;
use Exporter 'import';
our @EXPORT = qw($BASE $AUTHORITY $LIMIT $TEXT $BYTES $LARGE $LONG url check tell expect expect_compressed);

our ($BASE, $AUTHORITY, $ID) = @ARGV;
our $LIMIT = 30;
our $TEXT  = "grüße \x{1f980}";
our $BYTES = join '', map chr, 0 .. 255;
our $LARGE = join '', map chr(($_ * 7 + ($_ >> 8) * 13) & 255), 0 .. (1 << 20) - 1;
our $LONG  = 'a' x 200_000;
$| = 1;

sub url { my ($name, $path) = @_; return $BASE . ($path // '/') . "?id=$ID.$name" }

sub tell { my ($name, $result, $note) = @_; $note //= ''; $note =~ s/\s+/ /g; print "$name\t$result\t$note\n" }

sub check {
    my ($name, $action) = @_;
    my $note = eval {
        local $SIG{ALRM} = sub { die "nothing comes\n" };
        alarm $LIMIT;
        my $note = $action->();
        alarm 0;
        $note;
    };
    my $error = $@;
    alarm 0;
    return Checks::tell($name, 'no', $error) if $error;
    Checks::tell($name, 'yes', $note && !ref $note ? $note : '');
}

sub expect {
    my ($found, $wanted) = @_;
    die substr($found // 'nothing', 0, 80) . ' and not ' . substr($wanted, 0, 80) . "\n"
        unless defined $found && $found eq $wanted;
    return;
}

sub expect_compressed {
    my ($info) = @_;
    die "not compressed\n" unless $info->{deflate} && $info->{sent} < 20_000 && $info->{received} < 20_000;
    return;
}

1;
