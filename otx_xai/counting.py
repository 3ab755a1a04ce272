"""Numbers with the words that go with them."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "image"), counted(2, "image"), counted(2, "box", "boxes")
    ('1 image', '2 images', '2 boxes')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def are(number: int) -> str:
    """Return the verb that goes with a number."""
    return "is" if number == 1 else "are"


def have(number: int) -> str:
    """Return the verb that goes with a number."""
    return "has" if number == 1 else "have"
