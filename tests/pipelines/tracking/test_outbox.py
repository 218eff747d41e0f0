import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.tracking.outbox import Outbox


def test_events_come_back_in_order_with_every_character(tmp_path):
    outbox = Outbox(tmp_path)
    events = [{"kind": "text", "text": "zwei\nZeilen ß \u2028 ünd 猫"}, {"kind": "end"}]
    for event in events:
        outbox.append(event)
    assert list(Outbox(tmp_path).events()) == events


def test_each_store_has_its_own_mark(tmp_path):
    outbox = Outbox(tmp_path)
    for number in range(3):
        outbox.append({"number": number})
    _, position = outbox.unsent("a")[1]
    outbox.mark("a", position)
    again = Outbox(tmp_path)
    assert [event["number"] for event, _ in again.unsent("a")] == [2]
    assert [event["number"] for event, _ in again.unsent("b")] == [0, 1, 2]


@given(st.integers(0, 40))
def test_a_line_torn_by_a_crash_is_dropped_and_the_next_one_is_whole(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("run")
    outbox = Outbox(folder)
    outbox.append({"number": 0})
    outbox.append({"number": 1, "text": "a longer line"})
    path = folder / "outbox.jsonl"
    content = path.read_bytes()
    kept = len(content) - min(cut, len(content))
    path.write_bytes(content[:kept])
    again = Outbox(folder)
    again.append({"number": 9})
    whole = content[:kept].count(b"\n")
    assert [event["number"] for event in again.events()] == [*range(whole), 9]


def test_numbers_that_are_no_json_never_enter(tmp_path):
    outbox = Outbox(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        outbox.append({"value": float("nan")})
    assert list(outbox.events()) == []
