"""Tables, record batches and arrays of pyarrow.

An array is `[length, buffers, children, dictionary]`. A received one is in private memory, because
functions of Arrow read an array more than once and rely on finding the same. This module checks the sizes
of its buffers, `validate(full=True)` its offsets, codes and text. Arrow's own formats are not used: their
readers are not made for what an extension may send.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from . import Converter, checks

MAX_DEPTH = 32
UNITS = ("s", "ms", "us", "ns")
MAX_NULLS = 1 << 24
"""Items of an array of type null, which takes no memory: loops over it must end."""
TABLE, CHUNKED = pa.Table, pa.ChunkedArray

SIMPLE: dict[str, Any] = {
    str(made): made
    for made in (
        pa.null(),
        pa.bool_(),
        *(getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(getattr(pa, f"float{bits}")() for bits in (16, 32, 64)),
        *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
        *(pa.date32(), pa.date64(), pa.month_day_nano_interval()),
        *(pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
        *(pa.duration(unit) for unit in UNITS),
    )
}
"""Types without parameters, by their text."""
DECIMALS = {
    name: getattr(pa, name)
    for name in ("decimal32", "decimal64", "decimal128", "decimal256")
    if hasattr(pa, name)
}


# ---- types


def _encode_field(field: Any, depth: int) -> list[Any]:
    return [field.name, encode_type(field.type, depth + 1), field.nullable, _encode_metadata(field.metadata)]


def encode_type(kind: Any, depth: int = 0) -> list[Any]:
    """Return a type as a list; raise TypeError for one that cannot be sent."""
    if depth > MAX_DEPTH:
        raise TypeError(f"types may be nested in {MAX_DEPTH} levels")
    if str(kind) in SIMPLE and SIMPLE[str(kind)] == kind:
        return [str(kind)]
    if kinds.is_timestamp(kind):
        return ["timestamp", kind.unit, None if kind.tz is None else str(checks.zone("time zone", kind.tz))]
    if kinds.is_decimal(kind):
        return [f"decimal{kind.bit_width}", kind.precision, kind.scale]
    if kinds.is_fixed_size_binary(kind):
        return ["fixed_size_binary", kind.byte_width]
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        return ["list" if kinds.is_list(kind) else "large_list", _encode_field(kind.value_field, depth)]
    if kinds.is_fixed_size_list(kind):
        return ["fixed_size_list", _encode_field(kind.value_field, depth), kind.list_size]
    if kinds.is_struct(kind):
        return ["struct", [_encode_field(kind.field(i), depth) for i in range(kind.num_fields)]]
    if kinds.is_map(kind):
        return [
            "map",
            _encode_field(kind.key_field, depth),
            _encode_field(kind.item_field, depth),
            kind.keys_sorted,
        ]
    if kinds.is_dictionary(kind):
        return ["dictionary", str(kind.index_type), encode_type(kind.value_type, depth + 1), kind.ordered]
    raise TypeError(f"arrays of type {kind} cannot be sent; {_remedy(kind)}")


def _remedy(kind: Any) -> str:
    if isinstance(kind, pa.BaseExtensionType):
        return "send array.storage"
    if "view" in str(kind):
        return f"cast them to {str(kind).replace('_view', '').replace('string', 'large_string')}"
    return "cast them to another type, or send array.to_pylist()"


def _decode_field(value: Any, depth: int) -> Any:
    name, kind, nullable, metadata = checks.parts("field", value, 4)
    return pa.field(
        checks.need("name of a field", name, str),
        decode_type(kind, depth + 1),
        checks.need("nullable", nullable, bool),
        _decode_metadata(metadata),
    )


def _decode_timestamp(kind: list[Any], _depth: int) -> Any:
    _, unit, zone = checks.parts("timestamp", kind, 3)
    if unit not in UNITS:
        raise ValueError(f"the peer sent an unknown unit of time: {unit!r}")
    checks.need("time zone", zone, str, type(None))
    return pa.timestamp(unit, None if zone is None else checks.zone("time zone", zone))


def _decode_decimal(kind: list[Any], _depth: int) -> Any:
    name, precision, scale = checks.parts("decimal", kind, 3)
    checks.need("scale", scale, int)
    if not -(2**31) <= scale < 2**31:
        raise ValueError("the peer sent a scale that is out of range")
    return DECIMALS[name](checks.length("precision", precision), scale)


def _decode_fixed_binary(kind: list[Any], _depth: int) -> Any:
    return pa.binary(_width(checks.parts("fixed_size_binary", kind, 2)[1]))


def _width(value: Any) -> int:
    if not 0 <= checks.need("width", value, int) < 2**31:
        raise ValueError(f"the peer sent a width of {value}")
    return int(value)


def _decode_list(kind: list[Any], depth: int) -> Any:
    name, field = checks.parts("list", kind, 2)
    return getattr(pa, {"list": "list_", "large_list": "large_list"}[name])(_decode_field(field, depth))


def _decode_fixed_list(kind: list[Any], depth: int) -> Any:
    _, field, size = checks.parts("fixed_size_list", kind, 3)
    return pa.list_(_decode_field(field, depth), _width(size))


def _decode_struct(kind: list[Any], depth: int) -> Any:
    fields = checks.need("fields", checks.parts("struct", kind, 2)[1], list)
    return pa.struct([_decode_field(field, depth) for field in fields])


def _decode_map(kind: list[Any], depth: int) -> Any:
    _, key, item, ordered = checks.parts("map", kind, 4)
    field = _decode_field(key, depth)
    if field.nullable:
        raise ValueError("the peer sent a map whose keys may be null")
    return pa.map_(field, _decode_field(item, depth), checks.need("order", ordered, bool))


def _decode_dictionary(kind: list[Any], depth: int) -> Any:
    _, index, values, ordered = checks.parts("dictionary", kind, 4)
    if type(index) is not str or index not in SIMPLE or not kinds.is_integer(SIMPLE[index]):
        raise ValueError("the peer sent a dictionary whose codes are not integers")
    return pa.dictionary(SIMPLE[index], decode_type(values, depth + 1), checks.need("order", ordered, bool))


_DECODERS: dict[str, Any] = {
    "timestamp": _decode_timestamp,
    **dict.fromkeys(DECIMALS, _decode_decimal),
    "fixed_size_binary": _decode_fixed_binary,
    "list": _decode_list,
    "large_list": _decode_list,
    "fixed_size_list": _decode_fixed_list,
    "struct": _decode_struct,
    "map": _decode_map,
    "dictionary": _decode_dictionary,
}


def decode_type(value: Any, depth: int = 0) -> Any:
    """Return the type that `encode_type` has described."""
    if depth > MAX_DEPTH:
        raise ValueError("the peer sent types that are nested too deeply")
    if not checks.need("type", value, list) or type(value[0]) is not str:
        raise ValueError("the peer sent a type without a name")
    if len(value) == 1 and value[0] in SIMPLE:
        return SIMPLE[value[0]]
    if value[0] not in _DECODERS:
        raise ValueError(f"the peer sent an unknown type: {value[0][:100]!r}")
    return _DECODERS[value[0]](value, depth)


def _is_sent(key: bytes) -> bool:
    """Return whether metadata is sent: not what Arrow, pandas or polars would parse or act upon."""
    return key != b"pandas" and not key.startswith((b"ARROW:", b"_PL_"))


def _encode_metadata(metadata: Any) -> dict[bytes, bytes] | None:
    return {key: value for key, value in metadata.items() if _is_sent(key)} or None if metadata else None


def _decode_metadata(metadata: Any) -> dict[bytes, bytes] | None:
    for key, value in (checks.need("metadata", metadata, dict, type(None)) or {}).items():
        checks.need("metadata", key, bytes)
        checks.need("metadata", value, bytes)
        if not _is_sent(key):
            raise ValueError("the peer sent metadata for another package")
    return metadata or None


# ---- arrays


def _sizes(kind: Any, count: int) -> list[int]:
    """Return the least bytes of an array's buffers after the first, which says what is valid."""
    if kinds.is_null(kind) or kinds.is_struct(kind) or kinds.is_fixed_size_list(kind):
        return []
    if kinds.is_list(kind) or kinds.is_map(kind):
        return [4 * (count + 1)]
    if kinds.is_large_list(kind):
        return [8 * (count + 1)]
    if kinds.is_string(kind) or kinds.is_binary(kind):
        return [4 * (count + 1), 0]
    if kinds.is_large_string(kind) or kinds.is_large_binary(kind):
        return [8 * (count + 1), 0]
    return [(count * kind.bit_width + 7) // 8]


def _plain(array: Any) -> Any:
    """Return an equal array whose buffers begin with its first item."""
    if array.offset == 0:
        return array
    return pa.concat_arrays([array, array.slice(0, 0)])


def _children(array: Any, kind: Any) -> list[Any]:
    if kinds.is_struct(kind):
        return [array.field(i).slice(0, len(array)) for i in range(kind.num_fields)]
    if kinds.is_map(kind):
        return [
            pa.StructArray.from_arrays([array.keys, array.items], fields=[kind.key_field, kind.item_field])
        ]
    if kinds.is_fixed_size_list(kind):
        return [array.values.slice(0, len(array) * kind.list_size)]
    return [array.values] if kinds.is_list(kind) or kinds.is_large_list(kind) else []


def encode_array(array: Any) -> list[Any]:
    """Return `[length, buffers, children, dictionary]`."""
    array = _plain(array)
    kind, count = array.type, len(array)
    if kinds.is_dictionary(kind):
        return [*encode_array(array.indices)[:3], encode_array(array.dictionary)]
    first, *others = array.buffers()[: 1 + len(_sizes(kind, count))] or [None]
    buffers: list[Any] = [None if first is None or not array.null_count else _cut(first, (count + 7) // 8)]
    buffers += [_cut(buffer, size) for buffer, size in zip(others, _sizes(kind, count), strict=True)]
    return [count, buffers, [encode_array(child) for child in _children(array, kind)], None]


def _cut(buffer: Any, size: int) -> memoryview:
    """Return the first bytes of a buffer, or all of them if `size` is 0. It may be None if it is empty."""
    if buffer is None:
        return memoryview(b"")
    if not buffer.is_cpu:
        raise TypeError("arrays in the memory of a GPU cannot be sent; copy them to the CPU")
    view = memoryview(buffer)
    return view[:size] if size else view


def _decode_buffers(kind: Any, count: int, value: Any) -> list[Any]:
    sizes = _sizes(kind, count)
    validity, *others = checks.parts("list of buffers", value, 1 + len(sizes))
    buffers = [
        None if validity is None else pa.py_buffer(checks.private("validity", validity, (count + 7) // 8))
    ]
    for size, data in zip(sizes, others, strict=True):
        if count == 0 and size and not len(checks.need("buffer", data, memoryview, bytes)):
            buffers.append(pa.py_buffer(bytes(size)))  # an empty array need not have offsets
        else:
            buffers.append(pa.py_buffer(checks.private("buffer", data, size)))
    return buffers


def _child_types(kind: Any) -> list[Any]:
    if kinds.is_map(kind):
        return [pa.struct([kind.key_field, kind.item_field])]
    if kinds.is_struct(kind):
        return [kind.field(i).type for i in range(kind.num_fields)]
    nested = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    return [kind.value_type] if nested else []


def _build(kind: Any, value: Any) -> Any:
    """Return the array, whose memory is private and whose buffers are large enough, but not yet validated."""
    count, buffers, children, dictionary = checks.parts("array", value, 4)
    checks.length("length", count)
    if kinds.is_dictionary(kind):
        indices = _build(kind.index_type, [count, buffers, children, None])
        values = decode_array(kind.value_type, dictionary)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)  # which checks the codes
    types = _child_types(kind)
    made = [
        _build(child_type, child)
        for child_type, child in zip(
            types, checks.parts("list of children", children, len(types)), strict=True
        )
    ]
    if kinds.is_struct(kind) and any(len(child) < count for child in made):
        raise ValueError("the peer sent a struct that is longer than its fields")
    if kinds.is_fixed_size_list(kind) and len(made[0]) < count * kind.list_size:
        raise ValueError("the peer sent lists that are longer than their values")
    if kinds.is_null(kind):
        return pa.nulls(count) if count <= MAX_NULLS else _too_many()
    return pa.Array.from_buffers(kind, count, _decode_buffers(kind, count, buffers), children=made)


def _too_many() -> Any:
    raise ValueError("the peer sent too many items without data")


def decode_array(kind: Any, value: Any) -> Any:
    """Return an array in private memory that Arrow has validated."""
    array = _build(kind, value)
    array.validate(full=True)
    return array


# ---- converters


def _encode_schema(schema: Any) -> list[Any]:
    fields = []
    for i, field in enumerate(schema):
        try:
            fields.append(_encode_field(field, 0))
        except TypeError as error:
            raise TypeError(f"column {i} ({field.name!r}): {error}") from None
    return [fields, _encode_metadata(schema.metadata)]


def _decode_schema(value: Any) -> Any:
    fields, metadata = checks.parts("schema", value, 2)
    made = [_decode_field(field, 0) for field in checks.need("list of fields", fields, list)]
    return pa.schema(made, _decode_metadata(metadata))


def _decode_chunks(kind: Any, value: Any) -> Any:
    arrays = [decode_array(kind, chunk) for chunk in checks.need("list of chunks", value, list)]
    return pa.chunked_array(arrays, type=kind)


def encode(value: Any) -> list[Any]:
    """Return a Table, RecordBatch, ChunkedArray or Array as `[kind, type or schema, length, contents]`."""
    kind = {pa.Table: "table", pa.RecordBatch: "batch", pa.ChunkedArray: "chunked"}.get(type(value), "array")
    if kind in ("table", "batch"):
        encode_column = _encode_chunks if kind == "table" else encode_array
        described = _encode_schema(value.schema)  # before the columns, since it refuses types
        return [kind, described, value.num_rows, [encode_column(column) for column in value.columns]]
    described = encode_type(value.type)
    return [kind, described, len(value), _encode_chunks(value) if kind == "chunked" else encode_array(value)]


def _encode_chunks(value: Any) -> list[Any]:
    return [encode_array(chunk) for chunk in value.chunks]


def _decode_columns(value: Any, schema: Any, rows: int, make: Any) -> list[Any]:
    columns = []
    for i, (field, column) in enumerate(
        zip(schema, checks.parts("list of columns", value, len(schema)), strict=True)
    ):
        try:
            columns.append(make(field.type, column))
        except (TypeError, ValueError) as error:
            raise type(error)(f"column {i}: {error}") from None
        if len(columns[-1]) != rows:
            raise ValueError(f"column {i}: the peer sent {len(columns[-1])} rows, not {rows}")
        if not field.nullable and columns[-1].null_count:
            raise ValueError(f"column {i}: the peer sent nulls in a column that has none")
    return columns


def decode(value: Any) -> Any:
    """Return what `encode` has converted."""
    kind, described, rows, contents = checks.parts("value of pyarrow", value, 4)
    checks.length("number of rows", rows)
    if kind in ("table", "batch"):
        schema = _decode_schema(described)
        if kind == "table":
            table = pa.Table.from_arrays(
                _decode_columns(contents, schema, rows, _decode_chunks), schema=schema
            )
            return _with_rows(table, rows)
        arrays = _decode_columns(contents, schema, rows, decode_array)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
    made = decode_type(described)
    if kind == "chunked":
        return _decode_chunks(made, contents)
    if kind != "array":
        raise ValueError("the peer sent an unknown value of pyarrow")
    return decode_array(made, contents)


def _with_rows(table: Any, rows: int) -> Any:
    if table.num_rows != rows:
        raise ValueError("the peer sent a table without columns that has rows")
    return table


def converters(package: str) -> list[Converter]:
    """Return the converters for the types of pyarrow."""
    return [
        Converter(pa.Table, "pyarrow.Table", encode, decode),
        Converter(pa.RecordBatch, "pyarrow.RecordBatch", encode, decode),
        Converter(pa.ChunkedArray, "pyarrow.ChunkedArray", encode, decode),
        Converter(pa.Array, "pyarrow.Array", encode, decode, True),
    ]
