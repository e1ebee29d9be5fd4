"""The facts of a small student, as `ctcd export` writes them."""

EDGE = {"temperature": 2.0, "tau_squared": True, "divergence": "forward_kl", "positions": "masked", "signal": "logits"}


def edge(source, target, **changes):
    return {"source": source, "target": target, "weight": 1.0} | EDGE | changes


def member(trainable=True, **changes):
    start = {"kind": "scratch"}
    return {"layers": 2, "hidden": 32, "start": start, "trainable": trainable, "hard_weight": 1.0} | changes


def corpus(**changes):
    counts = {"documents": 40, "sentences": 400, "kept": 100}
    found = {
        "hash": "c0ffee" * 10 + "c0ff",
        "sources": [{"kind": "text", "name": "text.txt", "options": {}} | counts],
        "splits": {
            "train": {"documents": 36, "sentences": 90, "rows": 80, "tokens": 2000, "padding": 0.1},
            "validation": {"documents": 4, "sentences": 10, "rows": 9, "tokens": 220, "padding": 0.1},
        },
        "dropped": {},
        "length": 32,
        "packing": "packed",
        "every": 4,
        "seed": 7,
        "validation": 0.1,
        "language": "en",
        "deduplicate": False,
        "tokenizer": {"name": None, "cased": False, "vocab_size": 150, "hash": "ab"},
    }
    return found | changes


def facts(**changes):
    optimizer = {"learning_rate": 5e-4, "warmup_fraction": 0.05, "schedule": "linear", "b1": 0.9, "b2": 0.98}
    found = {
        "format": 1,
        "name": "ctcd-student",
        "version": "0.1.0",
        "run": "ctcd",
        "member": "student",
        "model": {
            "vocab_size": 150,
            "layers": 1,
            "hidden": 32,
            "heads": 2,
            "intermediate": 64,
            "max_positions": 64,
            "dropout": 0.1,
            "attention_dropout": 0.1,
        },
        "members": {"teacher": member(), "student": member(layers=1)},
        "edges": [edge("teacher", "student"), edge("student", "teacher", weight=4.0)],
        "from_scratch": True,
        "training": {
            "step": 20,
            "steps": 20,
            "batch_size": 8,
            "seed": 3,
            "dtype": "bfloat16",
            "masking": {"rate": 0.15, "smoothing": 0.0},
            "optimizer": optimizer | {"eps": 1e-6, "weight_decay": 0.0, "clip_norm": 5.0},
            "tokens": 4404,
        },
        "corpus": corpus(),
        "held_out": {"step": 20, "loss": 4.92, "accuracy": 0.0975},
        "parameters": 5654,
        "bytes": 25360,
        "weights": "d1ce",
        "parity": 8.2e-8,
    }
    return found | changes
