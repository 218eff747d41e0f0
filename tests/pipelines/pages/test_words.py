import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.pages import words

SECONDS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
BYTES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
ANY_SECONDS = st.floats(0, 1e9) | st.integers(0, 10**7).map(float)
ANY_BYTES = st.integers(0, 10**16) | st.integers(0, 10**7)
ANY_COUNTS = st.integers(0, 10**12) | st.integers(0, 10**8)


def read(text, units):
    """The number that a text says."""
    found = re.findall(r"([\d.\u202f]+) (\w+)", text)
    assert " ".join(f"{number} {unit}" for number, unit in found) == text
    return sum(float(number.replace("\u202f", "")) * units[unit] for number, unit in found)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0%"), (0.9344, "93.4%"), (1.0, "100.0%"), (-0.03, "−3.0%"), (None, "–")],
)
def test_percent(value, text):
    assert words.percent(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.625, "62%"), (-0.2, "−20%"), (None, "–")])
def test_whole_percent(value, text):
    assert words.whole_percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "+5.0"), (-0.0751, "−7.5"), (0.0, "±0.0"), (-0.0001, "±0.0"), (None, "–")],
)
def test_points(value, text):
    assert words.points(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "5.0"), (-0.05, "−5.0"), (-0.0001, "0.0"), (None, "–")]
)
def test_hundredths(value, text):
    assert words.hundredths(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.00"),
        (99.994, "99.99"),
        (99.996, "100"),
        (1234.5, "1\u202f234"),
        (123_456.0, "1e5"),
        (3e8, "3e8"),
        (float("inf"), "∞"),
        (None, "–"),
    ],
)
def test_perplexity(value, text):
    assert words.perplexity(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(41.372, "41.37"), (-0.5, "−0.5"), (-0.0, "0"), (16_847.2, "16\u202f850"), (3e7, "30.0 M")],
)
def test_figure(value, text):
    assert words.figure(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.416, "0.42"), (None, "–")])
def test_average(value, text):
    assert words.average(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (298752, "298\u202f752"),
        (-298752, "−298\u202f752"),
        (9_999_999, "9\u202f999\u202f999"),
        (22_713_216, "22.7 M"),
        (7_241_732_096, "7\u202f241.7 M"),
        (None, "–"),
    ],
)
def test_count(value, text):
    assert words.count(value) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 tasks"), (1, "1 task"), (1200, "1\u202f200 tasks")]
)
def test_what_is_counted_is_one_or_several(number, text):
    assert words.counted(number, "task") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (99_400, "99.4 kB"),
        (99_600, "100 kB"),
        (999_600, "1.0 MB"),
        (812_000_000, "812 MB"),
        (-4_000, "−4.0 kB"),
        (3_200_000_000_000, "3.2 TB"),
        (3_200_000_000_000_000, "3\u202f200 TB"),
        (None, "–"),
    ],
)
def test_size(value, text):
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (-0.04, "0.0 s"),
        (-12.3, "−12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (88.1, "1 min 28 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (86_369, "23 h 59 min"),
        (86_371, "1 d 00 h"),
        (3 * 86_400 + 4 * 3_600, "3 d 04 h"),
        (None, "–"),
    ],
)
def test_duration(value, text):
    assert words.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.05, "0.05 s"),
        (-0.2, "−0.2 s"),
        (10, "10 s"),
        (12.5, "12.5 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (600, "10 min"),
        (36_000, "10 h"),
        (172_800, "2 d"),
    ],
)
def test_a_duration_on_an_axis_leaves_out_what_is_zero(value, text):
    assert words.short_duration(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.75, "75"), (0.925, "92.5"), (-0.05, "−5")])
def test_hundredths_on_an_axis(value, text):
    assert words.short_hundredths(value) == text


def test_moments_are_said_in_their_own_zone():
    moment = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
    assert words.day(moment) == "2026-03-01 12:34"
    assert words.time_of_day(moment.astimezone(timezone(timedelta(hours=2)))) == "14:34:56"
    assert words.local(moment.timestamp()) == moment
    assert words.day(words.local(None)) == "–"


@pytest.mark.parametrize(
    ("names", "joined", "listed"),
    [
        ([], "", "nothing new"),
        (["a"], "a", "a"),
        (["a", "b"], "a and b", "a and b"),
        (["a", "b", "c"], "a, b and c", "a, b and c"),
        (["a", "b", "c", "d"], "a, b, c and d", "4 tasks"),
    ],
)
def test_names_in_a_row(names, joined, listed):
    assert (words.joined(names), words.listed(names)) == (joined, listed)


@given(ANY_SECONDS)
def test_a_duration_says_the_seconds_and_never_a_whole_larger_unit(seconds):
    text = words.duration(seconds)
    finest = 0.1 if "." in text else SECONDS[text.rpartition(" ")[2]]
    assert abs(read(text, SECONDS) - seconds) <= finest / 2 * (1 + 1e-9)
    assert not re.search(r"\b60(\.0)? (s|min)\b|\b24 h\b", text)


@given(ANY_BYTES)
def test_a_size_says_the_bytes_and_never_a_thousand_of_a_unit(number):
    text = words.size(number)
    assert abs(read(text, BYTES) - number) <= max(0.05 * number, 0.5)
    if number < 999.5e12:
        assert not text.startswith("1000 ")
        assert "\u202f" not in text


@given(ANY_COUNTS)
def test_a_count_says_the_number(number):
    found = words.count(number)
    digits, _, unit = found.replace("\u202f", "").partition(" ")
    said = float(digits) * (1e6 if unit == "M" else 1)
    assert abs(said - number) <= (50_000 if unit else 0)


@pytest.mark.parametrize(
    ("write", "numbers", "units"),
    [
        (words.duration, ANY_SECONDS, SECONDS),
        (words.size, ANY_BYTES, BYTES),
        (words.count, ANY_COUNTS, {"M": 1e6}),
    ],
    ids=["duration", "size", "count"],
)
def test_more_never_reads_as_less(write, numbers, units):
    def said(number):
        text = write(number)
        return read(text, units) if " " in text else float(text.replace("\u202f", ""))

    @given(numbers, numbers)
    def ordered(one, other):
        low, high = sorted((one, other))
        assert said(low) <= said(high)

    ordered()


@given(ANY_SECONDS.filter(bool), ANY_BYTES.filter(bool))
def test_a_sign_goes_before_what_would_be_said_without(seconds, number):
    for write, value in ((words.duration, seconds), (words.size, number), (words.count, number)):
        plain = write(value)
        signed = f"−{plain}" if re.search("[1-9]", plain) else plain
        assert write(-value) == signed


def test_the_words_load_neither_torch_nor_a_template_engine():
    code = (
        "import sys, ratchet.pipelines.pages.words; "
        "print([m for m in ('torch', 'jinja2', 'numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
