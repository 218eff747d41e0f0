"""The one voice of all pages and of the terminal: numbers, times and names in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

NONE = "–"
"""What was not measured, or is not there."""

MINUS = "−"
THIN_SPACE = "\u202f"
"""Between thousands. It never breaks a line, and terminals give it a cell as any other space."""

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MILLIONS_FROM = 10_000_000
SIZE_UNITS = ("B", "kB", "MB", "GB", "TB")


def hundredths(value: float | None) -> str:
    """A share, or a loss of accuracy, in hundredths: 0.934 as `93.4`; a dash for None."""
    return NONE if value is None else _signed(value, f"{100 * abs(value):.1f}")


def percent(value: float | None) -> str:
    """0.934 as `93.4%`; a dash for None."""
    return NONE if value is None else f"{hundredths(value)}%"


def whole_percent(value: float | None) -> str:
    """0.934 as `93%`, where a tenth would say nothing; a dash for None."""
    return NONE if value is None else _signed(value, f"{100 * abs(value):.0f}%")


def points(value: float | None) -> str:
    """A difference of accuracies as signed percentage points; a dash for None."""
    if value is None:
        return NONE
    text = hundredths(value)
    if not _says_something(text):
        return f"±{text}"
    return text if value < 0 else f"+{text}"


def perplexity(value: float | None) -> str:
    """A perplexity: 12.34, 1 234, 3e8; a dash for None."""
    if value is None:
        return NONE
    if math.isinf(value):
        return "∞"
    if value >= 1e5:
        digit, _, power = f"{value:.0e}".partition("e")
        return f"{digit}e{int(power)}"
    return f"{value:.2f}" if value < 99.995 else _spaced(f"{value:,.0f}")


def figure(value: float) -> str:
    """A number without a unit, to four digits: `41.37`, `16 850`."""
    rounded = float(f"{abs(value):.4g}")
    text = count(round(rounded)) if rounded >= 1e4 else f"{rounded:g}"
    return _signed(value, text)


def average(value: float | None) -> str:
    """A mean of counts: `0.42`; a dash for None."""
    return NONE if value is None else _signed(value, f"{abs(value):.2f}")


def count(value: int | None) -> str:
    """A count with thin spaces between thousands, in millions from ten million on."""
    if value is None:
        return NONE
    number = abs(value)
    text = f"{number / 1e6:,.1f} M" if number >= MILLIONS_FROM else f"{number:,}"
    return _signed(value, _spaced(text))


def counted(number: int, noun: str) -> str:
    """A count with what it counts: `1 task`, `3 tasks`."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def size(value: float | None) -> str:
    """Bytes in decimal units: `812 B`, `1.3 MB`; a dash for None."""
    if value is None:
        return NONE
    scaled, power = float(abs(value)), 0
    while scaled >= 999.5 and power < len(SIZE_UNITS) - 1:
        scaled, power = scaled / 1000, power + 1
    digits = 0 if power == 0 or scaled >= 99.5 else 1
    return _signed(value, f"{_spaced(f'{scaled:,.{digits}f}')} {SIZE_UNITS[power]}")


def duration(seconds: float | None) -> str:
    """Seconds as a person says them, in at most two units; a dash for None.

    `0.4 s`, `12.3 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`.
    """
    return NONE if seconds is None else _signed(seconds, _length(abs(seconds)))


def short_hundredths(value: float) -> str:
    """Hundredths on an axis, in no more digits than it takes: `75`, `92.5`."""
    return figure(100 * value)


def short_duration(seconds: float) -> str:
    """A duration on an axis, without what is zero: `0.05 s`, `20 s`, `5 min`, `2 h`."""
    if abs(seconds) < 1:
        return f"{figure(seconds)} s"
    text = duration(seconds).replace(".0 s", " s")
    return text.removesuffix(" 00 s").removesuffix(" 00 min").removesuffix(" 00 h")


def day(moment: datetime | None) -> str:
    """A date and a time to the minute, in the moment's own zone; a dash for None."""
    return NONE if moment is None else moment.strftime("%Y-%m-%d %H:%M")


def time_of_day(moment: datetime | None) -> str:
    """A time to the second, in the moment's own zone; a dash for None."""
    return NONE if moment is None else moment.strftime("%H:%M:%S")


def local(seconds: float | None) -> datetime | None:
    """A Unix time in the zone of this machine."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone()


def joined(names: Sequence[str]) -> str:
    """Names in a row: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def listed(names: Sequence[str]) -> str:
    """Up to three names in a row; of more only the number."""
    if not names:
        return "nothing new"
    return joined(names) if len(names) <= 3 else counted(len(names), "task")


def _length(seconds: float) -> str:
    """The smaller unit is rounded before the larger is taken: never 60 of it."""
    if seconds < MINUTE - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / MINUTE)
    if minutes < DAY // MINUTE:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / HOUR)
    return f"{count(hours // 24)} d {hours % 24:02d} h"


def _signed(value: float, text: str) -> str:
    """The text of a magnitude with its sign; what rounds to zero has none."""
    return f"{MINUS}{text}" if value < 0 and _says_something(text) else text


def _says_something(text: str) -> bool:
    return any(digit in text for digit in "123456789")


def _spaced(text: str) -> str:
    return text.replace(",", THIN_SPACE)
