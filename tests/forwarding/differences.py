"""Explanations of the differences between netwasm and the other two.

A class names the places that it explains, as regular expressions, and, where not
every case is meant, features that bring it about and the values of both sides.
`why` says what netwasm does, and by which rule. nginx is 1.22, haproxy is 2.6.
"""

import re


class Class:
    def __init__(self, name, why, places, tags=(), of=("nginx", "haproxy"), values=None,
                 is_race=False):
        self.name, self.why, self.tags, self.of = name, why, set(tags), of
        # It is seen or not, as time will have it.
        self.is_race = is_race
        self.places, self.values = re.compile(places), values

    def fits(self, case, other, place, ours, theirs):
        return (
            other in self.of
            and self.places.fullmatch(place) is not None
            and (not self.tags or not self.tags.isdisjoint(case.tags))
            and (self.values is None or self.values(ours, theirs))
        )


def explain(case, other, place, ours, theirs):
    """Returns the first class that fits; None if there is none."""
    return next((it for it in CLASSES if it.fits(case, other, place, ours, theirs)), None)


def lacks(ours, theirs):
    """netwasm leaves out what the other passes on."""
    return not ours and bool(theirs)


NGINX, HAPROXY = ("nginx",), ("haproxy",)

REFUSED_REQUESTS = (
    "host_missing", "host_twice", "host_odd", "folded_request", "length_twice", "length_list",
    "length_and_chunks", "chunks_in_1_0", "no_colon", "control_in_value", "coding_of_others")
REFUSED_ANSWERS = (
    "answer_lengths_that_differ", "answer_length_of_no_number", "answer_length_and_chunks",
    "answer_coding_of_others", "answer_chunks_in_1_0", "answer_folded",
    "answer_status_of_others", "answer_switches_unasked")
CHUNKED_REQUESTS = ("post_in_chunks", "post_with_extensions", "post_with_trailers")
ENDLESS = ("answer_up_to_the_end", "answer_1_0")
CHUNKED = ("answer_in_chunks", "answer_with_extensions", "answer_with_trailers")
OLD_CLIENT = ("request_1_0", "request_1_0_kept")

CLASSES = [
    Class("the other is stuck",
          "it has not answered in time, which is not compared.",
          "client (after|status|interim|framing)",
          values=lambda _, theirs: theirs in ("silence", "unreadable", None)),

    # Requests that do not pass.
    Class("malformed requests",
          "refused with 400: RFC 9112, 3.2 and 5 to 7 (some are a choice there).",
          "server requests|client status", REFUSED_REQUESTS,
          values=lambda ours, theirs: ours in (0, 400) or (ours, theirs) == (501, 422)),
    Class("unknown expectations",
          "417: RFC 9110, 10.1.1.", "server requests|client status", ["expect_of_others"],
          values=lambda ours, _: ours in (0, 417)),
    Class("unknown versions",
          "505, also for HTTP/1.2, which RFC 9110, 2.5, would have taken as HTTP/1.1; nobody "
          "sends it.",
          "server requests|client status", ["version_of_others"],
          values=lambda ours, _: ours in (0, 505)),
    Class("absolute target beside another Host",
          "the target's host goes on as Host: RFC 9112, 3.2.2. nginx is configured to pass the "
          "field; haproxy refuses the request.",
          "server host|server requests|client status",
          ["absolute_target", "absolute_target_of_another_host"],
          values=lambda _, theirs: isinstance(theirs, list) or theirs in (0, 400)),

    Class("chunks of HTTP/1.0",
          "refused with 400: the version has none (RFC 9112, 6.1).",
          "server requests|client status", CHUNKED_REQUESTS,
          values=lambda ours, _: ours in (0, 400)),
    Class("bodies of GET in HTTP/1.0",
          "passed on. haproxy answers 413.", "server requests|client status",
          ["get_with_body"], HAPROXY, values=lambda _, theirs: theirs in (0, 413)),

    # Heads of requests.
    Class("absolute target",
          "a server gets the path, as RFC 9112, 3.2.1, has clients send to one.",
          "server target", ["absolute_target"], HAPROXY),
    Class("version",
          "a proxy speaks its own: RFC 9110, 2.5.", "server version", OLD_CLIENT + (
              "host_missing_in_1_0",), HAPROXY),
    Class("no Host in HTTP/1.0",
          "the server gets `localhost`, since HTTP/1.1 wants the field.",
          "server host", ["host_missing_in_1_0"]),
    Class("POST without a body",
          "the length 0 is told: RFC 9110, 8.6. Some servers answer 411 without it.",
          "server (framing|length)", ["post_without_framing"]),
    Class("chunks in full",
          "chunks stay chunks. nginx tells the length of a body that has arrived whole.",
          "server (framing|length|coding)",
          CHUNKED_REQUESTS, NGINX),
    Class("case of `chunked`",
          "written by the proxy in lower case.", "(server|client) coding",
          ["post_in_chunks", "answer_in_chunks"], HAPROXY,
          values=lambda ours, theirs: ours == [it.lower() for it in theirs]),
    Class("trailers of requests",
          "passed on: RFC 9110, 6.5.1.", "server trailers", ["post_with_trailers"], NGINX),
    Class("Expect",
          "the server decides: RFC 9110, 10.1.1. nginx answers 100 itself, and sends the body to "
          "a server that would have refused it.",
          "server field expect|server (framing|length|body)|client (interim|after)",
          ["expect_continue", "expect_refused"], NGINX),
    Class("refused bodies",
          "the connection ends after a response to which the client may send its body or not: "
          "RFC 9110, 10.1.1. The others let it go on.",
          "client after", ["expect_refused"],
          values=lambda ours, _: ours == "closes"),
    Class("odd names",
          "every token is a name: RFC 9110, 5.6.2.", "server field x.*", ["odd_names"], NGINX),
    Class("Forwarded of clients",
          "removed, with X-Forwarded-*: `gateway` believes no client.",
          "server field forwarded", ["forwarded_fields"], values=lacks),

    Class("Max-Forwards",
          "counted for OPTIONS and TRACE: RFC 9110, 7.6.2.",
          "server field max-forwards", ["max_forwards"],
          values=lambda ours, theirs: (ours, theirs) == ([b"4"], [b"5"])),

    # The connection's fields.
    Class("fields of the connection in requests",
          "they stay: RFC 9110, 7.6.1, with Proxy-Authorization (11.7.2), and Upgrade which "
          "Connection does not name.",
          "server field (x-hop|x-other|keep-alive|proxy-connection|proxy-authorization|upgrade)",
          values=lacks),
    Class("options of Connection in requests",
          "none goes on, but for TE and Upgrade: RFC 9110, 7.6.1. An Upgrade beside a body does "
          "not.",
          "server options", values=lambda ours, theirs: set(ours) <= set(theirs)),
    Class("TE",
          "`trailers` is passed on: RFC 9110, 10.1.4.", "server (options|field te)", ["te"], NGINX),
    Class("fields of the connection in responses",
          "they stay, with Proxy-Authenticate (RFC 9110, 11.7.1).",
          "client field (x-hop|proxy-connection|proxy-authenticate|upgrade)", values=lacks),
    Class("options of Connection in responses",
          "none goes on: RFC 9110, 7.6.1. haproxy loses its own `close` beside `upgrade`.",
          "client (options|after)", ["answer_names_fields", "answer_offers_upgrade"], HAPROXY,
          values=lambda ours, theirs: not ours or (ours, theirs) == ("closes", "ended unsaid")),

    # Early answers.
    Class("early answers",
          "the server's connection ends with the response, and the rest of the body is dropped. "
          "haproxy sends it on; nginx drops its client.",
          "server (body|whole)|client after", ["early_answer"],
          values=lambda ours, theirs: ours in (b"", False, "goes on") or isinstance(ours, bytes)),

    # Interim responses.
    Class("100 without Expect",
          "dropped, as clients may do: RFC 9110, 15.2.1. A second one, too.",
          "client interim", ["interim_continue"], HAPROXY),
    Class("interim responses to HTTP/1.0",
          "not sent: RFC 9110, 15.2.", "client interim", OLD_CLIENT, HAPROXY, values=lacks),
    Class("haproxy after an interim response",
          "the whole body passes. haproxy 2.6 cuts a body that comes with an interim response "
          "and is larger than its buffer.",
          "client (body|trailers|whole|after)", ["interim", "interim_continue"], HAPROXY,
          values=lambda ours, theirs: ours not in ("ended", False)),

    # Responses.
    Class("reasons",
          "written by the proxy for the status; clients ignore them: RFC 9112, 4.",
          "client reason", ["reasons", "statuses"]),
    Class("Date and Server",
          "added if missing: RFC 9110, 6.6.1 and 10.2.4.",
          "client (date|server)", ["neither_date_nor_server"],
          values=lambda ours, _: ours in (1, [b"netwasm"])),
    Class("length of 304",
          "not passed on: the client knows it (RFC 9110, 15.4.5).",
          "client length", ["not_modified"], values=lacks),
    Class("trailers of responses",
          "only to who sends `TE: trailers`, with the field Trailer: RFC 9110, 6.5.1 and 6.6.2.",
          "client (trailers|field trailer)", ["answer_with_trailers"],
          values=lambda ours, theirs: lacks(ours, theirs)),
    Class("trailers that nginx drops",
          "passed on to who sends `TE: trailers`.",
          "client trailers", ["answer_with_trailers"], NGINX),
    Class("responses up to the end of the connection",
          "become chunks, so that the client sees if they are cut, and its connection goes on.",
          "client (framing|coding|after)", ENDLESS, HAPROXY),
    Class("chunks to HTTP/1.0",
          "the end of the connection ends the body: RFC 9112, 7.1.",
          "client (framing|coding|after|trailers)", OLD_CLIENT, HAPROXY),
    Class("chunks of no body",
          "HEAD gets no Transfer-Encoding, as RFC 9112, 6.1, allows.",
          "client coding", CHUNKED, values=lacks),
    Class("equal lengths",
          "are one: RFC 9110, 8.6. nginx takes none of a list.",
          "client (framing|length|coding|after)", ["length_in_list"], NGINX),

    Class("any `close`",
          "closes, in whichever line of Connection: RFC 9112, 9.6. nginx looks at the last line.",
          "client after", ["request_closes"], NGINX,
          values=lambda ours, _: ours == "closes"),
    Class("connections that haproxy ends",
          "the client's connection goes on after a whole response.",
          "client after", (*ENDLESS, "answer_1_0_kept", "answer_closes"), HAPROXY,
          values=lambda ours, _: ours == "goes on"),

    Class("connections that a server ends unsaid",
          "a request that meets the end is sent once more. nginx answers 502.",
          "client after", values=lambda ours, theirs: (ours, theirs) == ("goes on", "goes wrong"),
          is_race=True),
    Class("the request after an end that was not said",
          "goes over another connection. The other's meets the end, and is answered with 502.",
          "server requests|client status", ["after_a_close"],
          values=lambda ours, theirs: theirs == 0 or theirs == 502 != ours, is_race=True),

    # Responses that do not pass.
    Class("malformed responses",
          "502: RFC 9112, 5.2 and 6.3; 101 that nobody asked for, and statuses beyond 599 "
          "(RFC 9110, 15).",
          "client status", REFUSED_ANSWERS, values=lambda ours, _: ours == 502),
    Class("chunks that break later",
          "what came before is passed on, and then the connection ends. Others wait for more.",
          "client (status|origin)", ["answer_of_broken_chunks"]),
    Class("no response",
          "an idempotent request is sent once more: RFC 9110, 9.2.2.",
          "server requests", ["answer_is_none"], values=lambda ours, _: ours == 2),
]
