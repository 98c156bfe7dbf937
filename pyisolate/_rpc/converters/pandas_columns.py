"""Columns of pandas: `[kind, part...]`, by dtype."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from . import checks, numbers
from .pandas_text import Text, encode_arrow, encode_objects

NAN, NA = 2, 3  # of what is missing in a column of text


# ---- encoding


def refusal(where: str, problem: str, remedy: str) -> TypeError:
    """Return the error for a column that cannot be sent."""
    return TypeError(f"{where} {problem}; {remedy}")


def _encode_string(where: str, array: Any) -> list[Any]:
    dtype = array.dtype
    missing = NA if getattr(dtype, "na_value", pd.NA) is pd.NA else NAN
    if dtype.storage == "python":
        text = encode_objects(array.to_numpy(dtype=object))
    else:
        text = encode_arrow(array.__arrow_array__(), missing)
    return ["string", dtype.storage, missing, text]


def _encode_zone(where: str, zone: Any) -> Any:
    """Return a time zone as a value; one of pytz, which pandas 2 uses, as `["pytz", key]`."""
    if type(zone).__module__.partition(".")[0] == "pytz":
        return ["pytz", str(zone)]
    try:
        return checks.zone("time zone", zone)
    except TypeError:
        raise refusal(where, f"has the time zone {zone!r}", "use zoneinfo.ZoneInfo") from None


def _encode_masked(array: Any) -> list[Any]:
    dtype = array.dtype.numpy_dtype
    return ["masked", array.to_numpy(dtype=dtype, na_value=dtype.type(0)), np.asarray(array.isna())]


def encode_column(where: str, array: Any, index: Any) -> list[Any]:
    """Return an array of pandas or NumPy as a list.

    `index` encodes an Index. `where` begins the message of an error.
    """
    if type(array) is pd.arrays.NumpyExtensionArray:
        array = array.to_numpy()
    dtype = array.dtype
    if isinstance(dtype, pd.StringDtype):
        return _encode_string(where, array)
    if isinstance(dtype, pd.DatetimeTZDtype):
        utc = array.tz_convert(None) if dtype.tz is not None else array
        return ["zoned", numbers.writable(utc.to_numpy()), _encode_zone(where, dtype.tz)]
    if isinstance(dtype, pd.CategoricalDtype):
        return [
            "categorical",
            index(where, array.categories),
            numbers.writable(array.codes),
            bool(array.ordered),
        ]
    if isinstance(array, (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)):
        return _encode_masked(array)
    if isinstance(dtype, pd.ArrowDtype):
        return _encode_arrow_column(where, array)
    if dtype == np.dtype(object):
        return _encode_object_column(where, array)
    if isinstance(dtype, np.dtype) and dtype in numbers.ALLOWED:
        return ["numpy", numbers.writable(np.asarray(array))]
    raise refusal(
        where, f"has the dtype {dtype}", "convert it with astype to numbers, text or dates, or drop it"
    )


def _encode_arrow_column(where: str, array: Any) -> list[Any]:
    from . import pyarrow

    try:
        return ["arrow", pyarrow.encode(array.__arrow_array__())]
    except TypeError as error:
        raise refusal(where, str(error), "or drop it") from None


def _encode_object_column(where: str, array: Any) -> list[Any]:
    try:
        return ["object", encode_objects(np.asarray(array, dtype=object))]
    except TypeError as error:
        remedy = "convert it with astype, for example to str, or drop it"
        raise refusal(where, f"has the dtype object and {error}", remedy) from None


# ---- decoding


def _decode_string(parts: list[Any], _index: Any) -> Any:
    storage, missing, value = parts
    if storage not in ("python", "pyarrow", "pyarrow_numpy") or missing not in (NAN, NA):
        raise ValueError("the peer sent an unknown kind of text")
    text = Text(value)
    if text.missing is not None and ((text.missing != 0) & (text.missing != missing)).any():
        raise ValueError("the peer sent text of which another kind is missing than its dtype has")
    return string_array(text, storage, missing)


def string_array(text: Text, storage: str, missing: int) -> Any:
    """Return an array of text. Without pyarrow it is stored as objects."""
    if storage != "python":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            storage = "python"
    options = {} if missing == NA else {"na_value": np.nan}
    dtype = pd.StringDtype("pyarrow" if storage != "python" else "python", **options)
    if storage == "python":
        return pd.array(text.objects(), dtype=dtype)
    return dtype.__from_arrow__(text.arrow())


def _decode_zone(zone: Any) -> Any:
    if type(zone) is list:
        name, key = checks.parts("time zone", zone, 2)
        if name != "pytz":
            raise ValueError("the peer sent an unknown time zone")
        return _pytz(checks.need("time zone", key, str))
    if type(zone) is str:
        raise ValueError("the peer sent an unknown time zone")
    return checks.zone("time zone", zone)


def _pytz(key: str) -> Any:
    try:
        import pytz
    except ImportError:
        return ZoneInfo(key)
    return pytz.timezone(key)  # which looks it up in its list


def _decode_zoned(parts: list[Any], _index: Any) -> Any:
    values, zone = parts
    times = pd.Series(numbers.array("column of times", values, kinds="M"), copy=False)
    return times.dt.tz_localize("UTC").dt.tz_convert(_decode_zone(zone)).array


def _decode_categorical(parts: list[Any], index: Any) -> Any:
    categories, codes, ordered = parts
    made = index(categories)
    private = numbers.codes("list of codes", codes, len(made))
    dtype = pd.CategoricalDtype(made, checks.need("order", ordered, bool))
    return pd.Categorical.from_codes(private, dtype=dtype)


def _decode_masked(parts: list[Any], _index: Any) -> Any:
    values, mask = parts
    data = numbers.array("column of numbers", values, kinds="biuf")
    missing = numbers.array("mask", mask, kinds="b")
    if len(missing) != len(data) or data.dtype in (np.float16, np.longdouble):
        raise ValueError("the peer sent a mask that does not fit its numbers")
    kinds = {"b": pd.arrays.BooleanArray, "f": pd.arrays.FloatingArray}
    return kinds.get(data.dtype.kind, pd.arrays.IntegerArray)(data, missing)


def _decode_arrow(parts: list[Any], _index: Any) -> Any:
    from . import pyarrow

    chunked = pyarrow.decode(parts[0])
    if not isinstance(chunked, pyarrow.CHUNKED):
        raise ValueError("the peer sent a column that is not an array of Arrow")
    return pd.arrays.ArrowExtensionArray(chunked)


_DECODERS: dict[str, tuple[int, Any]] = {
    "numpy": (1, lambda parts, _index: numbers.array("column", parts[0])),
    "object": (1, lambda parts, _index: Text(parts[0]).objects()),
    "string": (3, _decode_string),
    "zoned": (2, _decode_zoned),
    "categorical": (3, _decode_categorical),
    "masked": (2, _decode_masked),
    "arrow": (1, _decode_arrow),
}
"""Kinds of columns: how many parts follow the name, and what makes the array of them."""


def decode_column(value: Any, index: Any) -> Any:
    """Return the array that `encode_column` has described. `index` decodes an Index."""
    checks.need("column", value, list)
    if not value or type(value[0]) is not str or value[0] not in _DECODERS:
        raise ValueError("the peer sent a column of an unknown kind")
    count, decode = _DECODERS[value[0]]
    return decode(checks.parts("column", value, 1 + count)[1:], index)
