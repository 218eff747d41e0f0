"""Statistics of paired proportions: the same rows answered before and after.

Of `num_rows` rows, `lost` went from right to wrong and `gained` from wrong to right. The loss is
(lost - gained) / num_rows, a share of rows; it is negative where more was gained than lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

# Halvings of [-1, 1] until a bound is known to 1e-12.
_HALVINGS = 41


def score_statistic(lost: int, gained: int, num_rows: int, loss: float) -> float:
    """How far the observed loss lies above a supposed one, in standard errors under the supposed.

    The score statistic of Tango 1998 (Statistics in Medicine 17:891-908, equations 24 to 26): its
    variance uses the share of gained rows that is most likely if `loss` is true. At a loss of 0 it
    is McNemar's (lost - gained) / sqrt(lost + gained). Tango's difference is that of the shares of
    right rows, after minus before; a loss is its negative.

    Args:
        lost: Rows that went from right to wrong.
        gained: Rows that went from wrong to right.
        num_rows: All rows.
        loss: The supposed loss, in [-1, 1].

    Raises:
        ValueError: The counts are none of paired rows.
    """
    _check_counts(lost, gained, num_rows)
    return _statistic(lost, gained, num_rows, loss)


def score_interval(lost: int, gained: int, num_rows: int, confidence: float) -> tuple[float, float]:
    """The losses that the rows do not contradict: Tango's score interval, two-sided.

    It holds every loss whose score statistic lies within the normal quantiles; each tail has
    (1 - confidence) / 2. Unlike Wald's it has a width where no row changed: 0 of n rows gives
    plus and minus z² / (n + z²). The bounds lie in [-1, 1] and are found by halving, as the
    statistic falls with the supposed loss. It is asymptotic: for what it covers on few rows see
    `docs/gate.md`.

    Args:
        lost: Rows that went from right to wrong.
        gained: Rows that went from wrong to right.
        num_rows: All rows.
        confidence: Between 0 and 1, both excluded.

    Returns:
        The lower and the upper bound of the loss, as shares of the rows.

    Raises:
        ValueError: The counts are none of paired rows, or the confidence is no share.
    """
    _check_counts(lost, gained, num_rows)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: it lies between 0 and 1, both excluded")
    width = NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = (_where(lost, gained, num_rows, quantile) for quantile in (width, -width))
    return (-1.0 if gained == num_rows else low), (1.0 if lost == num_rows else high)


def p_above(lost: int, gained: int, num_rows: int, limit: float) -> float:
    """How likely a loss as large is if the true one is `limit`: the one-sided score test.

    It is below (1 - confidence) / 2 exactly where the lower bound of `score_interval` is above
    `limit`.

    Raises:
        ValueError: The counts are none of paired rows.
    """
    return 1 - NormalDist().cdf(score_statistic(lost, gained, num_rows, limit))


def mean_interval(
    loss: float, spread: float, num_rows: int, confidence: float
) -> tuple[float, float]:
    """The normal interval of a mean loss, of rows that are answered in part.

    Where no row changed there is no spread to go by, and the score interval of as many rows without
    a change stands in.

    Args:
        loss: The mean over rows.
        spread: The standard deviation of a row's loss.
        num_rows: How many rows.
        confidence: Of the interval, between 0 and 1, both excluded.
    """
    if spread == 0:
        low, high = score_interval(0, 0, num_rows, confidence)
        return max(-1.0, loss + low), min(1.0, loss + high)
    width = NormalDist().inv_cdf((1 + confidence) / 2) * spread / math.sqrt(num_rows)
    return max(-1.0, loss - width), min(1.0, loss + width)


def mean_p_above(loss: float, spread: float, num_rows: int, limit: float) -> float:
    """How likely a mean loss as large is if the true one is `limit`; arguments as above."""
    if spread == 0:
        return p_above(0, 0, num_rows, max(limit - loss, -1.0))
    return 1 - NormalDist().cdf((loss - limit) / spread * math.sqrt(num_rows))


def mid_p(lost: int, gained: int) -> float:
    """McNemar's test that lost and gained rows are equally likely: exact, mid-p, two-sided.

    Given the number of rows that changed, either direction has probability 1/2; the observed
    outcome counts half (Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology
    13:91). It deviates from them where as many rows were lost as gained: 1 here, where they take
    half the probability of that outcome from 1, which would give 0.5 where nothing changed.

    Raises:
        ValueError: A count is negative.
    """
    one_sided = mid_p_loss(lost, gained)
    return 2 * min(one_sided, 1 - one_sided)


def mid_p_loss(lost: int, gained: int) -> float:
    """The same, one-sided: small where more rows were lost than chance explains.

    0.5 where as many were lost as gained. `mid_p_loss(gained, lost)` is the test of a gain, and
    both add up to 1.

    Raises:
        ValueError: A count is negative.
    """
    if lost < 0 or gained < 0:
        raise ValueError(f"{lost} lost and {gained} gained: counts are not negative")
    changed = lost + gained
    term, below = 1, 0  # whole numbers, as the probabilities of many rows are too small for floats
    for number in range(gained):
        below += term
        term = term * (changed - number) // (number + 1)
    return (2 * below + term) / 2 ** (changed + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number, step by step down from the smallest (Holm 1979).

    Those at or below a level are rejected with at most that chance of a single false rejection,
    however the tests depend on one another.

    Returns:
        Adjusted values in the order given, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def rows_to_tell(
    difference: float, discordance: float, confidence: float, power: float = 0.8
) -> int:
    """How many rows tell a loss of `difference` from none.

    So many that the two-sided interval excludes 0 with probability `power` if the true loss is
    `difference` (Connor 1987, Biometrics 43:207-211, with the quantile of the two-sided interval).

    Args:
        difference: The loss, above 0 and at most 1.
        discordance: The share of rows that change in either direction, in [0, 1]; where it is less
            than `difference` it is taken as that, as every lost row has changed.
        confidence: Of the interval, between 0 and 1, both excluded.
        power: Between 0 and 1, both excluded.

    Raises:
        ValueError: An argument is out of its bounds.
    """
    if not 0 < difference <= 1 or not 0 <= discordance <= 1:
        raise ValueError(f"a loss of {difference} among {discordance} changed: both are shares")
    if not 0 < confidence < 1 or not 0 < power < 1:
        raise ValueError(f"confidence {confidence} and power {power} lie between 0 and 1")
    changed = max(discordance, difference)
    normal = NormalDist()
    width = normal.inv_cdf((1 + confidence) / 2) * math.sqrt(changed)
    reach = normal.inv_cdf(power) * math.sqrt(changed - difference**2)
    return max(1, math.ceil(((width + reach) / difference) ** 2))


def loss_told(num_rows: int, discordance: float, confidence: float, power: float = 0.8) -> float:
    """The smallest loss that so many rows tell from none; see `rows_to_tell`.

    1 where they tell none.

    Raises:
        ValueError: No rows, or an argument is out of its bounds.
    """
    if num_rows < 1:
        raise ValueError(f"{num_rows} rows tell nothing")
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle > 0 and rows_to_tell(middle, discordance, confidence, power) <= num_rows:
            high = middle
        else:
            low = middle
    return high


def _check_counts(lost: int, gained: int, num_rows: int) -> None:
    if num_rows < 1 or lost < 0 or gained < 0 or lost + gained > num_rows:
        raise ValueError(f"{lost} lost and {gained} gained of {num_rows} rows is impossible")


def _statistic(lost: int, gained: int, num_rows: int, loss: float) -> float:
    """See `score_statistic`; infinite where the supposed loss leaves no room for the rows."""
    excess = lost - gained - num_rows * loss
    linear = (2 * num_rows - lost + gained) * loss - lost - gained
    root = math.sqrt(max(linear * linear + 8 * num_rows * gained * loss * (1 - loss), 0.0))
    likely = (root - linear) / (4 * num_rows)
    variance = num_rows * (2 * likely + loss * (1 - loss))
    if variance > 0:
        return excess / math.sqrt(variance)
    return math.copysign(math.inf, excess) if excess else 0.0


def _where(lost: int, gained: int, num_rows: int, quantile: float) -> float:
    """The supposed loss at which the statistic is `quantile`; it falls over [-1, 1]."""
    low, high = -1.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _statistic(lost, gained, num_rows, middle) > quantile:
            low = middle
        else:
            high = middle
    return (low + high) / 2
