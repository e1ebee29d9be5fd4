"""The facts of a small student, as `ctcd export` writes them: those of the real run, with round figures."""

from tests.smoke import REAL, varied


def edge(source, target, **changes):
    return varied(REAL["student/ctcd.json"]["edges"][0], source=source, target=target, **changes)


def member(trainable=True, base_model=None, **changes):
    found = varied(REAL["student/ctcd.json"]["members"]["teacher"], hidden=32, trainable=trainable, **changes)
    return found | ({"base_model": base_model} if base_model else {})


def corpus(**changes):
    real = REAL["student/ctcd.json"]["corpus"]
    train, validation = real["splits"]["train"], real["splits"]["validation"]
    found = {
        "hash": "c0ffee" * 10 + "c0ff",
        "sources": [varied(real["sources"][0], documents=40, sentences=400, kept=100)],
        "splits": {
            "train": varied(train, documents=36, sentences=90, rows=80, tokens=2000),
            "validation": varied(validation, documents=4, sentences=10, rows=9, tokens=220),
        },
        "every": 4,
        "seed": 7,
    }
    return varied(real, **found | changes)


def facts(**changes):
    real = REAL["student/ctcd.json"]
    found = {
        "name": "ctcd-student",
        "model": varied(real["model"], hidden=32, intermediate=64, max_positions=64),
        "members": {"teacher": member(), "student": member(layers=1)},
        "training": varied(real["training"], step=20, steps=20, seed=3, dtype="bfloat16", tokens=4404),
        "corpus": corpus(),
        "held_out": varied(real["held_out"], step=20, loss=4.92, accuracy=0.0975, unigram=5.3),
        "weights": "d1ce",
        "parity": 8.2e-8,
    }
    return varied(real, **found | changes)
