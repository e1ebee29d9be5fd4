"""What is read of compiled programs: the lines of each compiler."""

import pytest

from ctcd_jax.runtime.collectives import Collective, collectives, in_words

GROUPS = "replica_groups=[1,8]<=[8], use_global_device_ids=true"
MESH = "replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, use_global_device_ids=true"
LINES = {
    "a sum": (f"  %x = f32[30,8]{{1,0}} all-reduce(%y), {GROUPS}", ("all-reduce", 960, 8)),
    "several at once": (f"  ROOT %x = (f32[4]{{0}}, bf16[2,2]{{1,0}}) all-reduce(%y, %z), {GROUPS}",
                        ("all-reduce", 24, 8)),
    "of no dimension": ("  %x = s32[] all-reduce-start(%y), replica_groups={}", ("all-reduce", 4, 8)),
    "started": (f"  %all-reduce-start.3 = f32[30,8]{{1,0}} all-reduce-start(%y), {MESH}", ("all-reduce", 960, 4)),
    "gathered": ("  %x = f32[64,8]{1,0} all-gather(%y), replica_groups={{0,1},{2,3}}, dimensions={0}",
                 ("all-gather", 2048, 2)),
    "gathered in a while": (f"  %x = (f32[8,8]{{1,0}}, f32[64,8]{{1,0:T(8,128)}}) all-gather-start(%y), {GROUPS}",
                            ("all-gather", 2048, 8)),
    "several gathered": (f"  %x = ((bf16[1,8]{{1,0}}, f32[1]{{0}}), (bf16[4,8]{{1,0}}, /*index=5*/f32[4]{{0}})) "
                         f"all-gather-start(%y, %z), {MESH}", ("all-gather", 80, 4)),
    "scattered": (f"  %x = f32[8,8]{{1,0}} reduce-scatter(%y), {GROUPS}", ("reduce-scatter", 2048, 8)),
    "scattered in a while": (f"  %x = ((f32[64,8]{{1,0}}), f32[8,8]{{1,0}}) reduce-scatter-start(%y), {GROUPS}",
                             ("reduce-scatter", 2048, 8)),
    "exchanged": (f"  %x = f32[16]{{0}} all-to-all(%y), {GROUPS}", ("all-to-all", 64, 8)),
}  # fmt: skip


def program(*lines):
    text = "\n".join(lines)
    return (
        f"HloModule jit_step\n\nENTRY %main.1 (p: f32[8]) -> f32[8] {{\n  %p = f32[8]{{0}} parameter(0)\n{text}\n}}\n"
    )


@pytest.mark.parametrize(("line", "expected"), LINES.values(), ids=LINES)
def test_a_line_is_read(line, expected):
    assert collectives(program(line), 8) == [(*expected, 1)]


ACROSS = {
    "{{0,1},{2,3}}": (2, 1),
    "{{0,4},{1,5}}": (2, 2),
    "[1,8]<=[8]": (8, 2),
    "[2,4]<=[8]": (4, 1),
    "[4,2]<=[2,4]T(1,0)": (2, 2),
    "[2,4]<=[2,2,2]T(1,0,2)": (4, 2),
    "mesh['a'=2,'b'=4] {'b'}": (4, 1),
    "mesh['a'=2,'b'=4] {'a'}": (2, 2),
    "mesh['a'=2,'b'=4] {'a','b'}": (8, 2),
    "mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'a'}": (4, 1),
    "mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'c'}": (2, 2),
    "mesh['a'=2,'b'=4], device_ids=(0,1,4,5,2,3,6,7) {'b'}": (4, 2),
    "mesh['a'=2,'b'=4], device_ids=([8]) {'b'}": (4, 1),
    "{}": (8, 2),
}  # fmt: skip


@pytest.mark.parametrize(("groups", "expected"), ACROSS.items())
def test_groups_within_a_machine_and_across(groups, expected):
    """Two machines of four devices each."""
    line = f"  %x = f32[16]{{0}} all-reduce(%y), replica_groups={groups}, channel_id=1"
    (found,) = collectives(program(line), 8, machine=4)
    assert (found.devices, found.machines) == expected


def test_a_group_may_cross_where_the_first_does_not():
    line = "  %x = f32[16]{0} all-reduce(%y), replica_groups=[8,3]<=[24]"
    assert collectives(program(line), 24, machine=8) == [("all-reduce", 64, 3, 2)]


@pytest.mark.parametrize(
    ("pairs", "far"), [("{{0,1},{1,0},{4,5},{5,4}}", 0), ("{{0,1},{3,4},{7,0}}", 64 * 2 / 8), ("{{0,4},{4,0}}", 16)]
)
def test_a_permutation_crosses_where_a_pair_does(pairs, far):
    line = f"  %x = f32[16]{{0}} collective-permute(%y), channel_id=3, source_target_pairs={pairs}"
    (found,) = collectives(program(line), 8, machine=4)
    assert (found.kind, found.sent, found.sent_far) == ("collective-permute", 64, far)


UNKNOWN = {
    "groups": ("f32[16]{0} all-reduce(%y), replica_groups=new[8]", "unknown notation: , replica_groups=new"),
    "a part of an axis": ("f32[16]{0} all-reduce(%y), replica_groups=mesh['a'=8] {'a':(1)2}", "unknown notation"),
    "a type": ("f6[16]{0} all-reduce(%y), replica_groups={}", None),
    "another type": ("new[16]{0} all-reduce(%y), replica_groups={}", "unknown type new"),
    "a collective": ("f32[16]{0} collective-broadcast(%y), replica_groups={}", "collective-broadcast is not known"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_written_in_another_way_is_no_guess(case):
    line, said = UNKNOWN[case]
    if said is None:
        assert collectives(program(f"  %x = {line}"), 8) == [("all-reduce", 12, 8, 1)]
    else:
        with pytest.raises(ValueError, match=said):
            collectives(program(f"  %x = {line}"), 8)


def test_no_program_is_an_error():
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives("", 8)


def test_what_only_takes_the_result_is_no_collective():
    lines = (
        "  %a = f32[8]{0} all-reduce-done(%all-reduce-start)",
        "  %b = f32[8]{0} add(%all-reduce.1, %all-gather.2)",
    )
    assert collectives(program(*lines), 8) == []
    assert in_words([]) == "none"


def test_a_tpus_fused_sum_and_slice_is_scattering():
    body = "(p: f32[64,8]) -> f32[8,8] {\n  %x = f32[64,8]{1,0} all-reduce(%p), replica_groups={}\n}\n"
    calls = [f"  %f.{n} = f32[8,8]{{1,0}} fusion(%p), kind=kCustom, calls=%{name}"
             for n, name in enumerate(("all-reduce-scatter.2", "other"))]  # fmt: skip
    found = collectives(f"%all-reduce-scatter.2 {body}%other {body}{program(*calls)}", 4)
    assert [each.kind for each in found] == ["reduce-scatter", "all-reduce"]
    assert in_words(found) == "1 reduce-scatter of 0.0 MB, 1 all-reduce of 0.0 MB"


def test_what_a_tpu_does_in_parts_is_one():
    line = '  %x = f32[64,8]{1,0} all-gather(%p), channel_id=12, replica_groups={}, frontend_attributes={chain_id="0"}'
    parts = "".join(f"%part.{n} (p: f32[8,8]) -> f32[64,8] {{\n{line}\n}}\n" for n in range(3))
    calls = [f"  %f.{n} = f32[64,8]{{1,0}} fusion(%p), kind=kCustom, calls=%part.{n}" for n in range(3)]
    assert collectives(parts + program(*calls), 8) == [("all-gather", 2048, 8, 1)]


LOOP = """%body.1 (p: (f32[16], s32[])) -> (f32[16], s32[]) {
  %two = s32[]{:T(128)} constant(2), metadata={op_name="by two"}
  %count.1 = s32[] get-tuple-element(%p), index=1
  %count.2 = s32[]{:T(128)} add(%count.1, %two), metadata={op_name="on"}
  %x = f32[16]{0} all-reduce(%p), replica_groups={}
  ROOT %t = (f32[16]{0}, /*index=1*/s32[]) tuple(%x, /*index=1*/%count.2)
}
%condition.1 (p: (f32[16], s32[])) -> pred[] {
  %most = s32[]{:T(128)} constant(7)
  %count = s32[] get-tuple-element(%p), index=1
  ROOT %less = pred[] compare(%count, %most), direction=LT
}
"""


WHILE = "  %w.{} = (f32[16], s32[]) while(%t), condition=%condition.1, body=%body.1"
KNOWN = ', backend_config={"known_trip_count":{"n":"3"},"known_init_step":{"init":"0","step":"1"}}'


@pytest.mark.parametrize(("known", "times"), [("", 4), (KNOWN, 3)])
def test_what_a_loop_does_is_counted_as_often(known, times):
    lines = [WHILE.format(number) + known for number in (1, 2)]
    once = collectives(LOOP + program(lines[0]), 8)
    assert once == [("all-reduce", 64, 8, 1)] * times
    assert collectives(LOOP + program(*lines), 8) == 2 * once


@pytest.mark.parametrize(
    ("text", "by"),
    [("direction=LT", "direction=GT"), ("add(%count.1", "multiply(%count.1"), ("constant(7)", "negate(%p)")],
)
def test_a_loop_that_goes_round_who_knows_how_often_is_an_error_where_it_sends(text, by):
    loop = LOOP.replace(text, by)
    with pytest.raises(ValueError, match=r"how often the loop body\.1 goes round cannot be told"):
        collectives(loop + program(WHILE.format(1)), 8)
    assert collectives(loop.replace("all-reduce(", "negate(") + program(WHILE.format(1)), 8) == []


@pytest.mark.parametrize(
    "call",
    ["call(%p), to_apply=%{0}", "fusion(%p), calls=%{0}, metadata={{}}",
     "call(%p), called_computations={{%other, %{0}}}", "conditional(%p), branch_computations={{%other, %{0}}}",
     "conditional(%p), true_computation=%other, false_computation=%{0}"],
)  # fmt: skip
def test_what_is_called_is_counted(call):
    body = "(p: f32[8]) -> f32[8] {\n  %x = f32[16]{0} KIND(%p), replica_groups={}\n}\n"
    called = "%some.thing_1 " + body.replace("KIND", "all-reduce") + "%other " + body.replace("KIND", "negate")
    assert len(collectives(called + program("  %y = f32[8] " + call.format("some.thing_1")), 8)) == 1
    with pytest.raises(ValueError, match=r"nothing calls some\.thing_1"):
        collectives(called + program(), 8)


def test_what_a_device_sends_is_that_of_a_ring():
    assert Collective("all-reduce", 800, 4).sent == 2 * Collective("all-gather", 800, 4).sent == 1200
    assert Collective("all-reduce", 800, 1).sent == 0
    assert Collective("collective-permute", 800, 4).sent == 800


def test_machines_send_each_other_an_array_once_a_machine():
    """A device's share of what its machine sends: eight devices in two machines have four network cards each."""
    assert Collective("all-reduce", 800, 8, 1).sent_far == 0
    assert Collective("all-reduce", 800, 8, 2).sent_far == 800 / 4
    assert Collective("all-gather", 800, 8, 2).sent_far == 800 / 8
    assert Collective("all-to-all", 800, 8, 2).sent_far == 800 / 2
    assert Collective("all-reduce", 800, 2, 2).sent_far == Collective("all-reduce", 800, 2, 2).sent == 800
