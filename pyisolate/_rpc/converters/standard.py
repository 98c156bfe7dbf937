"""Types of the standard library that are written in Python."""

from __future__ import annotations

from fractions import Fraction

from . import Converter


def converters(package: str) -> list[Converter]:
    """Return the converters for the types of a package."""
    return [Converter(Fraction, "fractions.Fraction", _encode_fraction, _decode_fraction)]


def _encode_fraction(value: Fraction) -> object:
    return (value.numerator, value.denominator)


def _decode_fraction(parts: object) -> Fraction:
    match parts:
        case (int(numerator), int(denominator)):
            return Fraction(numerator, denominator)
    raise ValueError("a fraction is a pair of integers")
