"""Numbers and outcomes in words, as the report says them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

NONE = "–"


def percent(value: float | None) -> str:
    """0.934 as `93.4%`; a dash for None."""
    return NONE if value is None else f"{value:.1%}"


def points(value: float | None) -> str:
    """A difference of accuracies as signed percentage points; a dash for None."""
    if value is None:
        return NONE
    rounded = round(100 * value, 1)
    return f"{'−' if rounded < 0 else '+' if rounded > 0 else '±'}{abs(rounded):.1f}"


def loss(value: float) -> str:
    """A loss of accuracy in percentage points; a gain is negative."""
    rounded = round(100 * value, 1)
    return f"{'−' if rounded < 0 else ''}{abs(rounded):.1f}"


def perplexity(value: float | None) -> str:
    """A perplexity: 12.34, 1 234, 3e8; a dash for None."""
    if value is None:
        return NONE
    if value >= 1e5:
        digit, _, power = f"{value:.0e}".partition("e")
        return f"{digit}e{int(power)}"
    return f"{value:.2f}" if value < 99.995 else f"{value:,.0f}".replace(",", "\u202f")


def count(value: int | None) -> str:
    """A count with thin spaces between thousands, in millions from ten million on."""
    if value is None:
        return NONE
    if value >= 10_000_000:
        return f"{value / 1e6:.1f} M"
    return f"{value:,}".replace(",", "\u202f")


def size(value: int | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return NONE
    scaled = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if scaled < 999.5:
            digits = 0 if unit == "B" or scaled >= 99.5 else 1
            return f"{scaled:.{digits}f} {unit}"
        scaled /= 1000
    return f"{scaled:.1f} TB"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def day(created: str) -> str:
    """An ISO 8601 time as a date and a time to the minute."""
    return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M")


def listed(names: Sequence[str]) -> str:
    """Up to three names in a row; of more only the number."""
    if not names:
        return "nothing new"
    if len(names) > 3:
        return f"{len(names)} tasks"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
