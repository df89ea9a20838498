// The site of the tests, by Node.js: `node of_node.mjs PORT`.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const PIECE = Buffer.from(Array.from({ length: 16384 }, (_, at) => at % 256));

async function pieces(response, path, size) {
  const headers = { "Content-Type": "application/octet-stream" };
  if (path === "/bytes") headers["Content-Length"] = size;
  response.writeHead(200, headers);
  for (let begin = 0; begin < size; begin += PIECE.length) {
    if (!response.write(PIECE.subarray(0, Math.min(PIECE.length, size - begin)))) {
      await new Promise((resume) => response.once("drain", resume));
    }
  }
  response.end();
}

const server = createServer({ requestTimeout: 0 }, async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/bytes" || url.pathname === "/stream") {
    await pieces(response, url.pathname, Number(url.searchParams.get("n")));
  } else if (url.pathname === "/sum") {
    const digest = createHash("sha256");
    let length = 0;
    for await (const piece of request) {
      digest.update(piece);
      length += piece.length;
    }
    response.setHeader("X-Trailers", JSON.stringify(request.trailers));
    response.end(JSON.stringify({ length, sha: digest.digest("hex") }));
  } else if (url.pathname === "/told") {
    const fields = [];
    for (let at = 0; at < request.rawHeaders.length; at += 2) {
      fields.push([request.rawHeaders[at].toLowerCase(), request.rawHeaders[at + 1]]);
    }
    response.end(JSON.stringify([request.method, request.url, fields.sort()]));
  } else if (url.pathname.startsWith("/status/")) {
    response.writeHead(Number(url.pathname.slice(8)), { ETag: '"x"' }).end();
  } else if (url.pathname === "/cookies") {
    response.writeHead(200, { "Set-Cookie": ["a=1", "b=2"] }).end("cookies");
  } else if (url.pathname === "/slow") {
    setTimeout(() => response.end("slow"), 300);
  } else if (url.pathname === "/trailers") {
    response.writeHead(200, { Trailer: "X-Sum" });
    response.write("body");
    response.addTrailers({ "X-Sum": "1" });
    response.end();
  } else if (url.pathname === "/early") {
    // It answers at the head, and drops the body.
    response.writeHead(413).end("too much");
  } else {
    response.writeHead(404).end("none");
  }
});
server.on("upgrade", (_, socket) => {
  socket.write("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
  socket.pipe(socket);
});
server.on("checkContinue", (request, response) => {
  if (request.url === "/told") {
    response.writeHead(417).end();
  } else {
    response.writeContinue();
    server.emit("request", request, response);
  }
});
server.listen(Number(process.argv[2]), "127.0.0.1");
