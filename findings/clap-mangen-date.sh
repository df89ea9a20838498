#!/usr/bin/env bash
# clap_mangen 0.3.3 with roff 1.1.1 (crates.io), formatted by groff 1.22.4 (Debian 12).
#
# Question: does a manual page that is made with its defaults have a source and no date in
# its last line?
# Guess: yes. No date is set, so the page's `.TH` has an empty argument there.
# Seen: the empty argument is written as nothing at all, so that what follows it moves up:
# groff shows name and version in the middle, where the date belongs, and no source on the
# left. man-pages(7) has the order: title, section, date, source, manual.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
curl -sSf -o "$dir/deb" \
    http://deb.debian.org/debian/pool/main/g/groff/groff-base_1.22.4-10_amd64.deb
dpkg-deb -x "$dir/deb" "$dir/root"
cd "$dir"
cargo init --quiet --vcs none --name tool
cargo add --quiet clap@=4.6.9 clap_mangen@=0.3.3 roff@=1.1.1
cat >src/main.rs <<'RUST'
use clap::Command;

fn main() {
    let tool = Command::new("tool").version("9.8.7").about("Does a thing");
    let mut page = Vec::new();
    clap_mangen::Man::new(tool).render(&mut page).expect("a page");
    print!("{}", String::from_utf8(page).expect("text"));
}
RUST
cargo run --quiet >page
root=$dir/root/usr
shown=$(PATH=$root/bin:$PATH GROFF_FONT_PATH=$root/share/groff/1.22.4/font \
    GROFF_TMAC_PATH=$root/share/groff/1.22.4/tmac groff -man -Tascii -P-c page |
    grep -v '^$' | tail -n 1)
{
    grep '^\.TH' page | sed 's/ *$//'
    echo "the last line begins with: ${shown:0:20}"
    echo "in its middle: $(awk '{print $1, $2}' <<<"$shown")"
} | tee seen
diff <(sed 's/ *$//' seen) - <<'SEEN'
.TH tool 1  "tool 9.8.7"
the last line begins with:
in its middle: tool 9.8.7
SEEN
