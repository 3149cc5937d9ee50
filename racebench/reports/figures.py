"""Numbers as text, with the digits that matter."""

from __future__ import annotations


def interval(low: float, high: float, *, ascii_only: bool) -> str:
    """Two figures and a dash between them."""
    return f"{figure(low)}{'-' if ascii_only else '–'}{figure(high)}"


def figure(value: float) -> str:
    """A number with the digits that matter: counts whole, ratios with two places."""
    if (value == int(value) and abs(value) < 1e15) or abs(value) >= 100:
        return f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
