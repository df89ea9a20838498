#!/usr/bin/env bash
# grpcio 1.85.3 (PyPI), beside @grpc/grpc-js 1.14.7 (npm).
#
# Question: does a client read binary metadata whose two values came in one line?
# Guess: yes. gRPC's description of its protocol over HTTP/2 lets equal names be joined
# with commas, and says that implementations must split such fields (`...-bin`) at commas
# before they decode base64, as RFC 9110 (5.3) lets every proxy join lines.
# Seen: grpc-js has both values. grpcio fails the call with INTERNAL, "illegal base64
# encoding", though its message and its status 0 have come.
# Why it matters: proxies and servers that keep a field as one string (WSGI, CGI, many
# gateways) join what was sent twice. Calls then fail only with a client in Python (or
# another on grpc's core), and only where a name comes twice.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    grpcio==1.85.3 h2==4.4.1
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit @grpc/grpc-js@1.14.7
cat >ask.js <<'JAVASCRIPT'
const grpc = require("@grpc/grpc-js");
const client = new grpc.Client(`127.0.0.1:${process.argv[2]}`, grpc.credentials.createInsecure());
const same = (bytes) => bytes;
const call = client.makeUnaryRequest("/a/b", same, same, Buffer.alloc(0), (error) => {
  if (error) console.log("grpc-js", process.argv[3], "->", grpc.status[error.code]);
  client.close();
});
call.on("metadata", (it) => {
  const values = it.get("x-bin").map((value) => value.toString("hex"));
  console.log("grpc-js", process.argv[3], "->", values.join(" "));
});
JAVASCRIPT
timeout -v 120 venv/bin/python - <<'PYTHON' | tee seen
import socket
import subprocess
import threading

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

FORMS = {"two lines": [("x-bin", "AQ"), ("x-bin", "Ag")], "one line": [("x-bin", "AQ,Ag")]}


def serve(listener, fields):
    """Answers each call with an empty message, and these fields."""
    while True:
        peer, _ = listener.accept()
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        peer.sendall(connection.data_to_send())
        while data := peer.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, StreamEnded):
                    stream = event.stream_id
                    head = [(":status", "200"), ("content-type", "application/grpc")]
                    connection.send_headers(stream, head + fields)
                    connection.send_data(stream, bytes(5))
                    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            peer.sendall(connection.data_to_send())


for form, fields in FORMS.items():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, fields), daemon=True).start()
    port = listener.getsockname()[1]
    subprocess.run(["node", "ask.js", str(port), form], check=True)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            _, call = channel.unary_unary("/a/b").with_call(b"", timeout=30)
            values = [value.hex() for name, value in call.initial_metadata() if name == "x-bin"]
            print("grpcio", form, "->", *values, flush=True)
        except grpc.RpcError as error:
            print("grpcio", form, "->", error.code().name, flush=True)
PYTHON
diff seen - <<'SEEN'
grpc-js two lines -> 01 02
grpcio two lines -> 01 02
grpc-js one line -> 01 02
grpcio one line -> INTERNAL
SEEN
