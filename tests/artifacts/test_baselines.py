import json

from ctcd_jax.artifacts.baselines import read_baselines

COLA = {"data": "ab", "majority": {"matthews": 0.0}, "bag_of_words": {"matthews": 0.1}}


def read(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    warned = []
    return read_baselines(path, warned.append), warned


def test_what_is_whole_is_read_and_what_is_not_is_named(tmp_path):
    path = tmp_path / "baselines.json"
    assert read_baselines(path) == {}  # a folder of an earlier version has none
    tasks = {"cola": COLA, "rte": COLA | {"majority": {"accuracy": "half"}}, "mrpc": {"data": "ab", "majority": {}}}
    tasks |= {"sst2": COLA | {"bag_of_words": {"bleu": 0.1}}}
    found, warned = read(path, {"format": 1, "tasks": tasks})
    assert found == {"cola": COLA}
    assert warned == [
        f"{path}: tasks.rte.majority.accuracy is 'half', not a number at least -1 and at most 1; left out",
        f"{path}: tasks.mrpc.bag_of_words is missing; left out",
        f"{path}: tasks.sst2: bleu is no metric that this version knows; left out",
    ]


def test_a_file_that_is_damaged_or_of_another_format_is_left_out_with_its_reason(tmp_path):
    path = tmp_path / "baselines.json"
    assert read(path, {"format": 2, "tasks": {}}) == ({}, [f"{path}: format 2, this version reads 1; left out"])
    assert read(path, {"format": 1}) == ({}, [f"{path}: tasks is missing; left out"])
    found, (warned,) = read(path, '{"format": 1, ')
    assert found == {}
    assert warned.startswith(f"{path}: damaged (")
    assert warned.endswith("; left out")
