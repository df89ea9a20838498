"""A case of the differential test, and the list of features that cases have.

A feature is a function that changes a case. Its name is the tag by which the table
of explanations knows it.
"""

# Field of each response, by which a proxy's own ones are told from them.
MARK = "X-Case"


class Case:
    """A request as a client sends it, and the response of the server."""

    def __init__(self, number, rng):
        self.number, self.rng, self.tags = number, rng, []
        # The request.
        self.method, self.version = "GET", "HTTP/1.1"
        self.query, self.origin = "", ""
        self.host = ["Host: example.org"]
        self.lines, self.body = [], b""
        # The client waits before it sends the body: for 100 Continue, or, with
        # half of the body sent, for an early response.
        self.expects, self.holds = False, False
        # The response.
        self.status, self.answer_version = "200 OK", "HTTP/1.1"
        self.interim, self.answer_lines = b"", ["Date: Thu, 01 Jan 2026 00:00:00 GMT", "Server: s"]
        self.answer_framing = ["Content-Length: 6"]
        self.answer = b"answer"
        # The server answers at the head, and closes after its response.
        self.early, self.closes = False, False
        # It does not ask for a body that waits for 100 Continue.
        self.refuses = False

    @property
    def path(self):
        return f"/c/{self.number}"

    def request(self):
        """The head, and the body as it is sent."""
        target = f"{self.origin}{self.path}{self.query}"
        lines = [f"{self.method} {target} {self.version}", *self.host, *self.lines]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", self.body

    def response(self):
        lines = [f"{self.answer_version} {self.status}", f"{MARK}: {self.number}",
                 *self.answer_lines, *self.answer_framing]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        bodiless = self.method == "HEAD" or self.status[:3] in ("101", "204", "304")
        if not self.status:
            return b""
        return self.interim + head + (b"" if bodiless else self.answer)


def chunks(rng, body, extension="", trailers=()):
    """Frames a body as chunks of random sizes."""
    out = b""
    while body:
        size = rng.randint(1, len(body))
        out += b"%x%s\r\n%s\r\n" % (size, extension.encode(), body[:size])
        body = body[size:]
    return out + b"0\r\n" + b"".join(line.encode() + b"\r\n" for line in trailers) + b"\r\n"


def text(rng, most):
    size = rng.randint(1, most)
    return bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=size))


FEATURES = []


def feature(of, malformed=False):
    """Registers a feature of requests or responses. Malformed ones come alone."""

    def add(function):
        FEATURES.append((function.__name__, of, malformed, function))
        return function

    return add
