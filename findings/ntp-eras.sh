#!/usr/bin/env bash
# ntplib 0.4.0 (PyPI); ntp-client 0.5.3, ntp-time 2.1.1 and sntp 3.0.2 (npm).
#
# Question: which time does a client of NTP tell after 7 February 2036, when the 32 bits of
# seconds start again from 0?
# Guess: the right one. RFC 4330 (3) tells clients how: a time whose first bit is clear is
# counted from 2036. It was written in 2006, and each of them promises the present time.
# Seen: all four say 1901 for the year 2037, with no error. And the answer of a server that
# tells no time but asks for fewer requests (stratum 0 and the letters RATE, a kiss of death,
# which echoes the client's time) is a result like others: for three of them the client's
# clock is right then, by a server that sntp calls valid; ntp-client says 1900.
# Why it matters: programs that are installed today may run then, and where the clock follows
# this, no certificate is valid yet. Who uses such a client has to look at the stratum, where
# it is told, and to add 2^32 seconds to a time before 1968.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install ntplib==0.4.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit ntp-client@0.5.3 ntp-time@2.1.1 sntp@3.0.2
cat >client.js <<'JAVASCRIPT'
const ntpClient = require('ntp-client');
const { Client } = require('ntp-time');
const sntp = require('sntp');

const port = Number(process.argv[2]);
const tell = (name, time, offset) => {
  const year = `${name}: ${new Date(time).getUTCFullYear()}`;
  if (offset === undefined) return console.log(year);
  console.log(`${year}, offset ${Math.abs(offset) < 60 ? 'small' : 'of a century or more'}`);
};

(async () => {
  await new Promise((resolve, reject) => {
    ntpClient.getNetworkTime('127.0.0.1', port, (error, time) => {
      if (error) return reject(error);
      tell('ntp-client', time);
      resolve();
    });
  });
  const one = await new Client('127.0.0.1', port, { timeout: 20000 }).syncTime();
  tell('ntp-time', one.time, one.t);
  const other = await sntp.time({ host: '127.0.0.1', port, timeout: 20000 });
  const name = `sntp (${other.isValid ? 'valid' : 'not valid'})`;
  tell(name, other.transmitTimestamp, other.t / 1000);
  process.exit();
})();
JAVASCRIPT
cat >ask.py <<'PYTHON'
import calendar
import socket
import struct
import subprocess
import threading
import time

import ntplib

FROM_1900_TO_1970 = 2208988800
LATER = calendar.timegm((2037, 6, 1, 12, 0, 0))


def answer(kind, request):
    """An answer whose times are the present ones, those of 2037, or none (RFC 5905, 7.3, 7.4)."""
    asked = request[40:48]
    if kind == "kiss":
        head = struct.pack(">BBBb8x4s", 0b11_100_100, 0, 3, -20, b"RATE")
        return head + 4 * asked
    seconds = {"now": int(time.time()), "2037": LATER}[kind] + FROM_1900_TO_1970
    stamp = struct.pack(">II", seconds % 2**32, 0)
    head = struct.pack(">BBBb8x4s", 0b00_100_100, 1, 3, -20, b"GPS\0")
    return head + stamp + asked + stamp + stamp


def serve(kind, server):
    while True:
        request, client = server.recvfrom(512)
        server.sendto(answer(kind, request), client)


for kind in ("now", "2037", "kiss"):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    port = server.getsockname()[1]
    threading.Thread(target=serve, args=(kind, server), daemon=True).start()
    told = ntplib.NTPClient().request("127.0.0.1", version=4, port=port, timeout=20)
    offset = "small" if abs(told.offset) < 60 else "of a century or more"
    lines = [f"ntplib: {time.gmtime(told.tx_time).tm_year}, offset {offset}"]
    run = ["node", "--no-deprecation", "client.js", str(port)]
    lines += subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    present = str(time.gmtime().tm_year)
    print(f"{kind}:", *(line.replace(present, "this year") for line in lines), sep="\n  ")
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
now:
  ntplib: this year, offset small
  ntp-client: this year
  ntp-time: this year, offset small
  sntp (valid): this year, offset small
2037:
  ntplib: 1901, offset of a century or more
  ntp-client: 1901
  ntp-time: 1901, offset of a century or more
  sntp (valid): 1901, offset of a century or more
kiss:
  ntplib: this year, offset small
  ntp-client: 1900
  ntp-time: this year, offset small
  sntp (valid): this year, offset small
SEEN
