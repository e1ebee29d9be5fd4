"""What people read: a line of a community fits the terminal, losses have their baseline, and the bar counts what is
done."""

import threading
from types import SimpleNamespace

from ctcd_jax.training.console import WIDTH, Bar, Console, progress, short_names


def line(kind, members, edges=(), frozen=(), **more):
    pairs = [f"{a}~{b}" for a in members for b in members if a < b]
    return {
        "kind": kind,
        "step": 12_000,
        "members": {name: {} if name in frozen else {"hard": 4.2345, "accuracy": 0.2} for name in members},
        "edges": {edge: {"soft": 1.2345} for edge in edges},
        "agreement": dict.fromkeys(pairs, 0.801),
        **more,
    }


COMMUNITY = {
    "members": ("student1", "student2", "teacher"),
    "edges": ("student1->student2", "student2->student1", "teacher->student1", "teacher->student2#cosine"),
    "frozen": ("teacher",),
}


def test_a_line_of_two_members_has_names_and_agreement():
    said = []
    pair = {"members": ("student", "teacher"), "edges": ("teacher->student", "student->teacher")}
    Console(said.append, 50_000, has_mfu=False).train(line("train", **pair), 51_000, None, 4800)
    assert said == [
        "step 12,000/50,000 24% | hard student 4.2345 teacher 4.2345 | soft teacher->student 1.2345 "
        "student->teacher 1.2345 | agree 80.1% | 51,000 tokens/s | ETA 1h20m"
    ]
    assert len(said[0]) <= WIDTH
    Console(said.append, 50_000, has_mfu=True).train(line("train", **pair), 51_000, 0.123, 4800)
    assert said[1:] == [
        "in the log, student is s, teacher is t",
        "step 12,000/50,000 24% | hard s 4.234 t 4.234 | soft t->s 1.234 s->t 1.234 | agree 80.1% | "
        "51,000 tokens/s | MFU 12.3% | ETA 1h20m",
    ]


def test_a_community_fits_with_short_names_that_are_said_first():
    said = []
    console = Console(said.append, 50_000, has_mfu=True)
    for _ in range(2):
        console.train(line("train", **COMMUNITY), 51_000, 0.123, 4800)
    console.validation(line("validation", **COMMUNITY, unigram=6.4201))
    assert said[0] == "in the log, student1 is s1, student2 is s2, teacher is t"
    assert said[1] == said[2]
    assert said[1:] == [
        "step 12,000/50,000 24% | hard s1 4.234 s2 4.234 | soft s1->s2 1.234 s2->s1 1.234 t->s1 1.234 "
        "t->s2#cosine 1.234 | 51,000 tokens/s | MFU 12.3% | ETA 1h20m"
    ] * 2 + [
        "step 12,000 validation | hard s1 4.234 (perplexity 69) s2 4.234 (69) | word frequencies 6.4201",
        "step 12,000 validation | soft s1->s2 1.234 s2->s1 1.234 t->s1 1.234 t->s2#cosine 1.234 | "
        "agree s1~s2 80.1% s1~t 80.1% s2~t 80.1%",
    ]
    assert max(map(len, said)) <= WIDTH


def test_a_line_of_validation_has_perplexity_word_frequencies_and_further_corpora():
    said = []
    news = {"unigram": 6.9, "members": {"student": {"hard": 6.0, "accuracy": 0.1}}}
    Console(said.append, 20, has_mfu=False).validation(
        line("validation", ("student",), unigram=6.4201, corpora={"news": news})
    )
    assert said == [
        "step 12,000 validation | hard student 4.2345 (perplexity 69) | word frequencies 6.4201",
        "step 12,000 validation on news | hard student 6.0000 (perplexity 403) | word frequencies 6.9000",
    ]


def test_names_are_as_short_as_they_can_be_told_apart():
    assert short_names(["teacher", "student1", "student2"]) == {"teacher": "t", "student1": "s1", "student2": "s2"}
    assert short_names(["tutor", "teacher"]) == {"tutor": "tu", "teacher": "te"}
    assert short_names(["a1b", "a1c"]) == {"a1b": "a1b", "a1c": "a1c"}


def test_what_is_not_known_is_left_out():
    assert progress(1, 20, None, None, None) == ("step 1/20 5%", "")


def test_the_bar_counts_what_is_finished_and_nobody_waits_for_it(capsys):
    gate, bar = threading.Event(), Bar(10, 3, shown=True)
    step = SimpleNamespace(block_until_ready=lambda: gate.wait(20))  # of a device that is not there yet
    bar.dispatched(step)
    before = bar._bar.n
    gate.set()
    bar.close()
    assert (before, bar._bar.n) == (3, 4)
    assert "4/10" in capsys.readouterr().err
