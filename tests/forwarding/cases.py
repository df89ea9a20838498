"""Cases of the differential test: each feature alone, and then random mixtures of
them, always the same ones for a seed."""

import random

import request_features  # noqa: F401, registers them
import response_features  # noqa: F401
from case import FEATURES, Case


def clash(names):
    """True for features that make no sense together."""
    together = lambda *some: len(names.intersection(some)) > 1
    return (
        together("expect_refused", "early_answer", "statuses", "reasons", "no_content",
                 "not_modified")
        or together("no_content", "not_modified", "large_answer", "answer_in_chunks",
                    "answer_with_extensions", "answer_with_trailers", "answer_up_to_the_end",
                    "answer_1_0", "length_in_list", "answer_of_nothing")
        # An older client does not wait, and an older server's response ends with its
        # connection, which waits for the rest of the request.
        or (names & {"expect_continue", "expect_refused"}
            and names & {"request_1_0", "request_1_0_kept"})
        or together("early_answer", "answer_1_0", "answer_up_to_the_end")
        or (names & {"expect_refused"} and names & {"answer_1_0_kept", "answer_1_0"})
        or (names & {"answer_1_0", "answer_1_0_kept"} and names & {"interim", "interim_continue"})
        or (names & {"max_forwards"} and any("post" in it or "expect" in it or "early" in it
                                             or it.startswith(("method", "get")) for it in names))
    )


def mix(rng, number):
    """A case of one malformed feature, or of some others of different kinds."""
    case = Case(number, rng)
    if rng.random() < 0.12:
        chosen = [rng.choice([it for it in FEATURES if it[2]])]
    else:
        while True:
            count = rng.choice([1, 2, 2, 3, 3, 4, 5])
            chosen = rng.sample([it for it in FEATURES if not it[2]], count)
            kinds = {it[1] for it in chosen}
            if len(kinds) == count and not clash({it[0] for it in chosen}):
                break
        # As they are defined: of later ones some look at what earlier ones did.
        chosen.sort(key=FEATURES.index)
    for name, _, _, change in chosen:
        change(case)
        case.tags.append(name)
    return case


def generate(seed, count):
    """Each feature alone, and then mixtures, up to so many cases."""
    rng, closed = random.Random(seed), False
    for number in range(count):
        own = random.Random(rng.random())
        if number < len(FEATURES):
            case = Case(number, own)
            FEATURES[number][3](case)
            case.tags.append(FEATURES[number][0])
        else:
            case = mix(own, number)
        if closed:
            case.tags.append("after_a_close")
        # Not each proxy gets a case with an interim response.
        closed = case.closes or (closed and bool(case.interim))
        yield case
