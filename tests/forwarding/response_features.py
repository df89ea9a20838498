"""Features of responses."""

from case import chunks, feature, text

# Responses.

@feature("status")
def statuses(case):
    case.status = case.rng.choice(
        ["201 Created", "206 Partial Content", "301 Moved Permanently", "404 Not Found",
         "418 I'm a teapot", "500 Internal Server Error", "503 Service Unavailable", "299 Odd"])


@feature("status")
def reasons(case):
    case.status = case.rng.choice(["200 All is well", "200 ", "200", "404 \u00e9", "200 a\tb"])


@feature("status")
def no_content(case):
    case.status, case.answer_framing = "204 No Content", []


@feature("status")
def not_modified(case):
    case.status = "304 Not Modified"
    case.answer_framing = case.rng.choice([[], ["Content-Length: 6"]])
    case.answer_lines.append('ETag: "x"')


@feature("framing")
def answer_of_nothing(case):
    case.answer_framing, case.answer = ["Content-Length: 0"], b""


@feature("framing")
def large_answer(case):
    case.answer = text(case.rng, 400000)
    case.answer_framing = [f"Content-Length: {len(case.answer)}"]


@feature("framing")
def answer_in_chunks(case):
    case.answer = chunks(case.rng, text(case.rng, case.rng.choice([10, 5000, 200000])))
    case.answer_framing = ["Transfer-Encoding: " + case.rng.choice(["chunked", "CHUNKED"])]


@feature("framing")
def answer_with_extensions(case):
    case.answer = chunks(case.rng, text(case.rng, 100), ";a=b")
    case.answer_framing = ["Transfer-Encoding: chunked"]


@feature("framing")
def answer_with_trailers(case):
    case.answer = chunks(case.rng, text(case.rng, 100), "", ["X-Sum: 1"])
    case.answer_framing = ["Transfer-Encoding: chunked", "Trailer: X-Sum"]


@feature("framing")
def answer_up_to_the_end(case):
    case.answer_framing, case.closes = case.rng.choice([[], ["Connection: close"]]), True


@feature("framing")
def answer_closes(case):
    case.answer_lines.append("Connection: close")
    case.closes = True


@feature("framing")
def answer_1_0(case):
    case.answer_version, case.closes = "HTTP/1.0", True
    case.answer_framing = case.rng.choice([[], case.answer_framing])


@feature("framing")
def answer_1_0_kept(case):
    case.answer_version = "HTTP/1.0"
    case.answer_lines.append("Connection: keep-alive")


@feature("framing")
def length_in_list(case):
    case.answer_framing = case.rng.choice(
        [["Content-Length: 6", "Content-Length: 6"], ["Content-Length: 6, 6"]])
    case.answer_lines.append("Connection: close")
    case.closes = True


@feature("answer_fields")
def answer_fields(case):
    for _ in range(case.rng.randint(1, 12)):
        name = case.rng.choice(["Set-Cookie", "X-A", "x-b", "Vary", "Cache-Control", "Link"])
        value = case.rng.choice(["a=b; Path=/", "1", "", "x, y", '"q"', "a\tb"])
        case.answer_lines.append(f"{name}: {value}")


@feature("answer_fields")
def answer_of_high_bytes(case):
    case.answer_lines.append("X-High: caf\u00e9")


@feature("answer_fields")
def many_answer_fields(case):
    case.answer_lines += [f"X-{number}: {number}" for number in range(case.rng.randint(50, 95))]


@feature("answer_fields")
def long_answer_field(case):
    case.answer_lines.append("X-Long: " + "v" * case.rng.randint(2000, 20000))


@feature("answer_fields")
def neither_date_nor_server(case):
    case.answer_lines = []


@feature("answer_fields")
def answer_via(case):
    case.answer_lines.append("Via: 1.1 inner")


@feature("answer_hop")
def answer_names_fields(case):
    case.answer_lines += ["Connection: X-Hop", "X-Hop: 1", "X-End: 2"]


@feature("answer_hop")
def answer_keep_alive(case):
    case.answer_lines += ["Connection: keep-alive", "Keep-Alive: timeout=9"]


@feature("answer_hop")
def answer_proxy_fields(case):
    case.answer_lines += ["Proxy-Connection: keep-alive", "Proxy-Authenticate: Basic"]


@feature("answer_hop")
def answer_offers_upgrade(case):
    case.answer_lines += ["Connection: Upgrade", "Upgrade: h2c"]


@feature("interim")
def interim(case):
    one = case.rng.choice([b"HTTP/1.1 102 Processing\r\n\r\n",
                           b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
    case.interim = one * case.rng.randint(1, 3)


@feature("interim")
def interim_continue(case):
    case.interim = b"HTTP/1.1 100 Continue\r\n\r\n"


# Responses: what is not to be.

@feature("bad_answer", malformed=True)
def answer_lengths_that_differ(case):
    case.answer_framing = ["Content-Length: 6", "Content-Length: 5"]
    case.closes = True


@feature("bad_answer", malformed=True)
def answer_length_of_no_number(case):
    case.answer_framing = ["Content-Length: " + case.rng.choice(["+6", "six", "", "9" * 25])]
    case.closes = True


@feature("bad_answer", malformed=True)
def answer_length_and_chunks(case):
    case.answer = chunks(case.rng, b"answer")
    case.answer_framing = ["Content-Length: 6", "Transfer-Encoding: chunked"]
    case.closes = True


@feature("bad_answer", malformed=True)
def answer_coding_of_others(case):
    case.answer = chunks(case.rng, b"answer")
    case.answer_framing = ["Transfer-Encoding: " + case.rng.choice(["gzip, chunked", "xchunked"])]
    case.closes = True


@feature("bad_answer", malformed=True)
def answer_chunks_in_1_0(case):
    case.answer_version, case.closes = "HTTP/1.0", True
    case.answer = chunks(case.rng, b"answer")
    case.answer_framing = ["Transfer-Encoding: chunked"]


@feature("bad_answer", malformed=True)
def answer_folded(case):
    case.answer_lines.append("X-Fold: a\r\n b")


@feature("bad_answer", malformed=True)
def answer_blank_before_colon(case):
    case.answer_lines.append("X-Blank : a")


@feature("bad_answer", malformed=True)
def answer_status_of_others(case):
    case.status, case.closes = case.rng.choice(["600 High", "099 Low"]), True


@feature("bad_answer", malformed=True)
def answer_is_cut(case):
    case.answer_framing = case.rng.choice([["Content-Length: 9"], ["Transfer-Encoding: chunked"]])
    if "chunked" in case.answer_framing[0]:
        case.answer = b"9\r\nanswer"
    case.closes = True


@feature("bad_answer", malformed=True)
def answer_of_broken_chunks(case):
    case.answer_framing, case.closes = ["Transfer-Encoding: chunked"], True
    case.answer = b"6\r\nanswer\r\n" + case.rng.choice([b"x\r\n\r\n", b"-1\r\n\r\n"])


@feature("bad_answer", malformed=True)
def answer_has_more(case):
    case.answer += b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"


@feature("bad_answer", malformed=True)
def answer_is_none(case):
    case.closes, case.status = True, ""


@feature("bad_answer", malformed=True)
def answer_switches_unasked(case):
    case.status, case.answer_framing, case.closes = "101 Switching Protocols", ["Upgrade: x"], True
