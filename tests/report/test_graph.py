import copy
import re
import xml.etree.ElementTree as ET

import pytest

from ctcd_jax.report.graph import cohort_graph, describe
from tests.smoke import REAL, varied


def edge(source, target, **fields):
    return varied(REAL["runs/ctcd/config.json"]["edges"][0], source=source, target=target, **fields)


def cohort(members, edges=()):
    """A run's config; `members` gives what is theirs, by name."""
    real = REAL["runs/ctcd/config.json"]
    shape = real["resolved"]["models"]["teacher"]
    large = varied(shape, vocab_size=30522, layers=12, hidden=768, heads=12, intermediate=3072, max_positions=512)
    return varied(
        real,
        members={name: varied(real["members"]["teacher"], **fields) for name, fields in members.items()},
        edges=list(edges),
        resolved=varied(real["resolved"], models={name: large if name == "teacher" else shape for name in members}),
    )


@pytest.fixture(scope="module")
def community():
    return cohort(
        {"teacher": {"trainable": False}, "one": {"hard_weight": 0.5}, "two": {}},
        [
            edge("teacher", "one", divergence="reverse_kl"),
            edge("teacher", "two", weight=2.0, temperature=3.0, tau_squared=True),
            edge("one", "two", divergence="jensen_shannon"),
            edge("two", "one", positions="attended"),
        ],
    )


def boxes(root):
    for group in root.iter("g"):
        if "member" in group.get("class"):
            rect = group.find("rect")
            x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
            yield group.find("text").text, (x, y, x + width, y + height)


def ends(path):
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d"))]
    return tuple(numbers[:2]), tuple(numbers[-2:])


def distance(point, box):
    return max(box[0] - point[0], point[0] - box[2], box[1] - point[1], point[1] - box[3])


def test_every_arrow_runs_from_the_border_of_its_source_to_that_of_its_target(community):
    root = ET.fromstring(cohort_graph("run0", community))
    places = dict(boxes(root))
    assert list(places) == ["teacher", "one", "two"]
    paths = [path for path in root.iter("path") if path.get("class") == "edge"]
    for arrow, path in zip(community["edges"], paths, strict=True):
        start, end = ends(path)
        assert 0 < distance(start, places[arrow["source"]]) < 5
        assert 0 < distance(end, places[arrow["target"]]) < 5


def test_opposite_arrows_keep_apart():
    pair = cohort({"teacher": {}, "student": {}}, [edge("teacher", "student"), edge("student", "teacher")])
    down, up = (
        ends(path) for path in ET.fromstring(cohort_graph("r", pair)).iter("path") if path.get("class") == "edge"
    )
    assert up[0][0] - down[1][0] > 20
    assert up[1][0] - down[0][0] > 20


def test_labels_say_what_an_edge_and_a_member_are(community):
    text = " ".join(ET.fromstring(cohort_graph("run0", community)).itertext())
    for part in ("weight 2", "τ 3, × τ²", "reverse KL", "Jensen–Shannon", "attended", "109.5 M parameters", "× 0.5"):
        assert part in text
    assert text.count("frozen") == 1


def test_a_pair_has_one_arrow_for_all_its_signals():
    edges = [edge("teacher", "student"), edge("teacher", "student", weight=3.0, signal="cosine")]
    root = ET.fromstring(cohort_graph("r", cohort({"teacher": {}, "student": {}}, edges)))
    assert [path.get("class") for path in root.iter("path")].count("edge") == 1
    lines = [text.text for text in root.iter("text")]
    assert lines[:4] == ["weight 1", "forward KL", "τ 2, × τ²", "weight 3, cosine"]


@pytest.mark.parametrize("change", [{"architecture": "of tomorrow"}, {"heads": 7}, {"new_field": 1}])
def test_of_a_shape_that_this_version_does_not_know_there_is_no_number_of_parameters(change, community):
    config = copy.deepcopy(community)
    for shape in config["resolved"]["models"].values():
        shape |= change
    text = " ".join(ET.fromstring(cohort_graph("run0", config)).itertext())
    assert "12 layers, hidden 768" in text
    assert "parameters" not in text


def test_the_drawing_stays_within_its_frame(community):
    root = ET.fromstring(cohort_graph("run0", community))
    _, _, width, height = map(float, root.get("viewBox").split())
    for _, (left, top, right, bottom) in boxes(root):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_boxes_never_overlap(count):
    config = cohort({f"m{index}": {} for index in range(count)})
    placed = [box for _, box in boxes(ET.fromstring(cohort_graph("r", config)))]
    for index, one in enumerate(placed):
        for two in placed[index + 1 :]:
            assert one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]


def test_words_for_who_cannot_see_it_are_escaped(community):
    config = cohort({'a"<b>': {}})
    assert describe(community).endswith("two teaches one, weight 1")
    of_states = edge("two", "one", weight=3.0, signal="cosine")
    assert describe(varied(community, edges=[of_states])).endswith("two teaches one by cosine, weight 3")
    assert ET.fromstring(cohort_graph("r", config)).get("aria-label") == 'a"<b> (trainable)'
