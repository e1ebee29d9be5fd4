import math

import pytest

from ctcd_jax.data.hashing import hash64
from ctcd_jax.data.sentences import Sampling, split_sentences
from ctcd_jax.data.sources import Document


def test_sentences_are_split_and_their_white_space_made_single():
    paragraph = "Dr. Smith   met Mr. Jones at 5 p.m. in St. Louis. They left.\tWas it late? "
    assert split_sentences(paragraph) == [
        "Dr. Smith met Mr. Jones at 5 p.m. in St. Louis.",
        "They left.",
        "Was it late?",
    ]
    assert split_sentences("one line without an end") == ["one line without an end"]


def test_the_draw_is_the_same_everywhere_and_for_ever():
    # b2sum -l 64 of "sentence\0" "7\0" "sub/c.txt\0" "3\0" "11"
    assert hash64("sentence", 7, "sub/c.txt", 3, 11) == 0x39856F96755475E9


def kept(seed, every, path="a.txt", documents=200, sentences=50):
    sampling = Sampling(seed, every, 0.01)
    return {
        (d, s) for d in range(documents) for s in range(sentences) if sampling.keeps(Document(path, d, ()), s)
    }  # fmt: skip


@pytest.mark.parametrize("every", [2, 7, 50])
def test_one_sentence_in_k_is_kept_on_average(every):
    n = 200 * 50
    deviation = math.sqrt(n * (1 / every) * (1 - 1 / every))
    assert abs(len(kept(0, every)) - n / every) < 4 * deviation


def test_draws_are_independent_of_one_another_and_of_every_other_file():
    first = kept(0, 4)
    for other in (kept(1, 4), kept(0, 4, path="b.txt")):
        both = len(first & other)
        assert abs(both - 10_000 / 16) < 4 * math.sqrt(10_000 / 16 * 15 / 16)
    counts = [sum((d, s) in first for s in range(50)) for d in range(200)]
    spread = (
        sum((count - 12.5) ** 2 for count in counts) / 200
    )  # of a binomial: 50 * 1/4 * 3/4 = 9.4, of one draw a document: 470
    assert 6 < spread < 13


def test_one_in_one_keeps_every_sentence():
    assert len(kept(0, 1)) == 10_000


def test_the_share_of_documents_is_held_out():
    sampling = Sampling(3, 1, 0.05)
    held_out = {d for d in range(20_000) if sampling.holds_out(Document("a.txt", d, ()))}
    assert abs(len(held_out) - 1000) < 4 * math.sqrt(1000 * 0.95)
    other = {d for d in range(20_000) if Sampling(4, 1, 0.05).holds_out(Document("a.txt", d, ()))}
    assert len(held_out & other) < 100
