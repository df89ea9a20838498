"""Features of requests."""

from case import chunks, feature, text

# Requests: methods and targets.

@feature("method")
def method_head(case):
    case.method = "HEAD"


@feature("method")
def method_of_others(case):
    case.method = case.rng.choice(["OPTIONS", "DELETE", "PURGE", "M-SEARCH"])


@feature("method")
def post_with_length(case):
    case.method = case.rng.choice(["POST", "PUT", "PATCH"])
    case.body = text(case.rng, case.rng.choice([10, 5000, 200000]))
    case.lines.append(f"Content-Length: {len(case.body)}")


@feature("method")
def post_of_nothing(case):
    case.method = "POST"
    case.lines.append("Content-Length: 0")


@feature("method")
def post_without_framing(case):
    case.method = "POST"


@feature("method")
def post_in_chunks(case):
    case.method = case.rng.choice(["POST", "PUT"])
    case.body = chunks(case.rng, text(case.rng, case.rng.choice([10, 5000, 200000])))
    case.lines.append("Transfer-Encoding: " + case.rng.choice(["chunked", "Chunked"]))


@feature("method")
def post_with_extensions(case):
    case.method = "POST"
    case.body = chunks(case.rng, text(case.rng, 100), ";a=b;c=\"d\"")
    case.lines.append("Transfer-Encoding: chunked")


@feature("method")
def post_with_trailers(case):
    case.method = "POST"
    case.body = chunks(case.rng, text(case.rng, 100), "", ["X-Sum: 1", "X-Sum: 2"])
    case.lines += ["Transfer-Encoding: chunked", "Trailer: X-Sum"]


@feature("method")
def get_with_body(case):
    case.body = text(case.rng, 100)
    case.lines.append(f"Content-Length: {len(case.body)}")


@feature("method")
def expect_continue(case):
    case.method, case.expects = "POST", True
    case.body = text(case.rng, 1000)
    case.lines += [f"Content-Length: {len(case.body)}", "Expect: 100-continue"]


@feature("method")
def expect_refused(case):
    expect_continue(case)
    case.refuses, case.closes, case.status = True, True, "417 Expectation Failed"
    case.answer_lines.append("Connection: close")


@feature("method")
def early_answer(case):
    post_with_length(case)
    case.early, case.holds = True, True


@feature("target")
def query(case):
    case.query = case.rng.choice(["?", "?a=b&c", "?x=%20/%2e%2e/?", "?a=b??c", "?'();:@!$,*"])


@feature("target")
def absolute_target(case):
    case.origin = "http://example.org"


@feature("target")
def absolute_target_of_another_host(case):
    case.origin = "http://other.example"


@feature("target")
def escapes(case):
    case.query = "?" + case.rng.choice(["%41%c3%a9", "a+b%2B", "%25%32%65"])


# Requests: versions and hosts.

@feature("version")
def request_1_0(case):
    case.version = "HTTP/1.0"


@feature("version")
def request_1_0_kept(case):
    case.version = "HTTP/1.0"
    case.lines.append("Connection: keep-alive")


@feature("version")
def request_closes(case):
    case.lines.append("Connection: " + case.rng.choice(["close", "Close", "x, close"]))


@feature("host")
def host_forms(case):
    case.host = ["Host: " + case.rng.choice(
        ["example.org:8080", "EXAMPLE.org", "127.0.0.1", "[::1]:80", "a.b.c.example.", "x_y"])]


@feature("host", malformed=True)
def host_missing(case):
    case.host = []


@feature("host", malformed=True)
def host_missing_in_1_0(case):
    case.version, case.host = "HTTP/1.0", []


@feature("host", malformed=True)
def host_twice(case):
    case.host = ["Host: example.org", "Host: example.org"]


@feature("host", malformed=True)
def host_odd(case):
    case.host = ["Host: " + case.rng.choice(["", "a b", "a/b", "user@example.org", "a:b:c"])]


# Requests: fields.

@feature("fields")
def fields(case):
    for _ in range(case.rng.randint(1, 20)):
        name = case.rng.choice(["X-A", "x-b", "Accept", "Cookie", "Accept-Language", "X-C-d"])
        value = case.rng.choice(["", "1", "a, b", "a;q=0.5", '"q\\"x"', "two  blanks", "a\tb"])
        case.lines.append(f"{name}: {value}")


@feature("fields")
def field_of_high_bytes(case):
    case.lines.append("X-High: caf\u00e9 \u00ff")


@feature("fields")
def long_field(case):
    case.lines.append("X-Long: " + "v" * case.rng.randint(2000, 8000))


@feature("fields")
def many_fields(case):
    case.lines += [f"X-{number}: {number}" for number in range(case.rng.randint(50, 85))]


@feature("fields")
def blanks_around_values(case):
    case.lines += ["X-Blanks: \t a b \t ", "X-None:", "X-Tight:x"]


@feature("fields")
def odd_names(case):
    case.lines += ["X.dot: 1", "x_under: 2", "X!#$%&'*+^`|~: 3"]


@feature("fields")
def forwarded_fields(case):
    case.lines += ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https",
                   "X-Forwarded-Host: evil.example", "Forwarded: for=192.0.2.1"]


@feature("fields")
def via_before(case):
    case.lines.append("Via: 1.0 fred, 1.1 p.example")


@feature("fields")
def max_forwards(case):
    case.method = "OPTIONS"
    case.lines.append("Max-Forwards: 5")


@feature("hop")
def connection_names_fields(case):
    case.lines += ["Connection: X-Hop, x-other,,", "X-Hop: 1", "X-OTHER: 2", "X-End: 3"]


@feature("hop")
def connection_twice(case):
    case.lines += ["X-Hop: 1", "Connection: keep-alive", "Connection: X-Hop"]


@feature("hop")
def connection_names_the_message(case):
    case.lines.append("Connection: Host, Content-Length, Via")


@feature("hop")
def keep_alive(case):
    case.lines += ["Connection: keep-alive", "Keep-Alive: timeout=5, max=100"]


@feature("hop")
def proxy_fields(case):
    case.lines += ["Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5"]


@feature("hop")
def te(case):
    case.lines.append("TE: " + case.rng.choice(["trailers", "gzip", "deflate;q=0.5, trailers"]))
    case.lines.append("Connection: TE")


@feature("hop")
def upgrade_ignored(case):
    case.lines += ["Connection: Upgrade", "Upgrade: some/1"]


@feature("hop")
def upgrade_unnamed(case):
    case.lines.append("Upgrade: some/1")


@feature("upgrade", malformed=True)
def upgrade(case):
    case.lines += ["Connection: Upgrade", "Upgrade: some/1"]
    case.status, case.closes = "101 Switching Protocols", True
    case.answer_framing = ["Connection: Upgrade", "Upgrade: some/1"]


# Requests: what is not to be.

@feature("bad", malformed=True)
def folded_request(case):
    case.lines.append("X-Fold: a\r\n b")


@feature("bad", malformed=True)
def blank_before_colon(case):
    case.lines.append("X-Blank : a")


@feature("bad", malformed=True)
def length_twice(case):
    post_with_length(case)
    case.lines.append(case.lines[-1])


@feature("bad", malformed=True)
def length_list(case):
    post_with_length(case)
    case.lines[-1] = f"Content-Length: {len(case.body)}, {len(case.body)}"


@feature("bad", malformed=True)
def lengths_that_differ(case):
    post_with_length(case)
    case.lines.append(f"Content-Length: {len(case.body) + 1}")


@feature("bad", malformed=True)
def length_of_no_number(case):
    case.method = "POST"
    case.lines.append("Content-Length: " + case.rng.choice(["+1", "-1", "0x1", "", "1 1", "9" * 25]))
    case.body = b"x"


@feature("bad", malformed=True)
def length_and_chunks(case):
    post_in_chunks(case)
    case.lines.append(f"Content-Length: {len(case.body)}")


@feature("bad", malformed=True)
def coding_of_others(case):
    post_in_chunks(case)
    case.lines[-1] = "Transfer-Encoding: " + case.rng.choice(
        ["gzip, chunked", "identity", "xchunked", "chunked, chunked", "chunked;q=1", "gzip"])


@feature("bad", malformed=True)
def chunks_in_1_0(case):
    post_in_chunks(case)
    case.version = "HTTP/1.0"


@feature("bad", malformed=True)
def broken_chunks(case):
    case.method, case.lines = "POST", ["Transfer-Encoding: chunked"]
    case.body = case.rng.choice([b"+3\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
                                 b"3\r\nabcd\r\n0\r\n\r\n", b"x\r\n\r\n"])


@feature("bad", malformed=True)
def expect_of_others(case):
    case.lines.append("Expect: 200-ok")


@feature("bad", malformed=True)
def no_name(case):
    case.lines.append(": nameless")


@feature("bad", malformed=True)
def no_colon(case):
    case.lines.append("colonless")


@feature("bad", malformed=True)
def control_in_value(case):
    case.lines.append("X-Control: a\x01b")


@feature("bad", malformed=True)
def version_of_others(case):
    case.version = case.rng.choice(["HTTP/1.2", "HTTP/9.9", "HTTP/2.0", "http/1.1"])
