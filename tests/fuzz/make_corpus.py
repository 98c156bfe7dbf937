"""Writes the seeds of the fuzzers to corpus/, from the tables of docs/wire-format.md and from nothing else.

The files are checked in; run this again after a change of the format: ``python tests/fuzz/make_corpus.py``.
"""

import struct
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

CALL, REPLY, ERROR, CANCEL, RELEASE, DEFINE, GOODBYE, ATTACH, ATTACHED, RETIRE, RETIRED = range(1, 12)
END_LEASES, REFUSED = 12, 13
KWARGS, NO_REPLY, BODY_SPAN, PARENT, SPAN_TABLE = 1, 2, 4, 8, 16


def frame(
    kind: int,
    body: bytes = b"",
    *,
    flags: int = 0,
    spans: int = 0,
    timeout_ms: int = 0,
    call: int = 0,
    target: int = 0,
    method: int = 0,
    parent: int | None = None,
) -> bytes:
    """A message: header, spans one behind the other in segment 0, body."""
    header = struct.pack("<BBHIQII", kind, flags, spans, timeout_ms, call, target, method)
    if parent is not None:
        header += struct.pack("<Q", parent)
    return header + b"".join(struct.pack("<IIQQ", 0, 1, 4096 * i, 4096) for i in range(spans)) + body


def ext(kind: int, payload: bytes) -> bytes:
    """An extension in the 8-bit form."""
    return struct.pack(">BBb", 0xC7, len(payload), kind) + payload


FRAMES = {
    "call": frame(CALL, b"\x92\x01\xa1x", call=1, method=2),
    "call_keywords": frame(
        CALL, b"\x91\x01\x81\xa3key\xc3", flags=KWARGS, timeout_ms=250, call=1, target=3, method=2
    ),
    "call_no_reply": frame(CALL, b"\x90", flags=NO_REPLY),
    "call_buffers": frame(CALL, b"\x92" + ext(9, b"\x00") + ext(9, b"\x01"), spans=2, call=(7 << 32) + 1),
    "call_parent": frame(CALL, b"\x90", flags=PARENT, call=1, parent=(3 << 32) + 2),
    "call_parent_none": frame(CALL, b"\x90", flags=PARENT, call=1, parent=0),
    "reply": frame(REPLY, b"\xcb\x3f\xf8\0\0\0\0\0\0", call=1),
    "reply_body_in_span": frame(REPLY, flags=BODY_SPAN, spans=2, call=1),
    "reply_table": frame(REPLY, b"\x90", flags=SPAN_TABLE, spans=1, call=1),
    "reply_table_and_body": frame(REPLY, flags=SPAN_TABLE | BODY_SPAN, spans=2, call=1),
    "error": frame(ERROR, ext(21, b"\x81\xa4type\xb3builtins:ValueError"), call=1),
    "cancel": frame(CANCEL, call=1),
    "release": frame(RELEASE, struct.pack("<QIIQII", 4096, 1, 0, 8192, 2, 0)),
    "release_padding": frame(RELEASE, struct.pack("<QII", 4096, 1, 1)),
    "define": frame(DEFINE, b"method", method=4),
    "goodbye": frame(GOODBYE),
    "truncated": frame(CALL, call=1)[:-1],
    "attach": frame(ATTACH, method=1),
    "attached": frame(ATTACHED, method=1),
    "retire": frame(RETIRE, method=1),
    "retired": frame(RETIRED, method=1),
    "end_leases": frame(END_LEASES, struct.pack("<QQ", 1, (7 << 32) + 2)),
    "refused": frame(REFUSED, method=1),
    "unknown_type": frame(REFUSED + 1),
    "unknown_flag": frame(CALL, b"\x90", flags=16, call=1),
    "call_without_number": frame(CALL, b"\x90"),
    "too_many_spans": frame(REPLY, spans=1025, call=1),
    "missing_spans": frame(REPLY, spans=2, call=1)[:-30],
    "large_body": frame(REPLY, b"\xc0" * 4097, call=1),
    "release_odd": frame(RELEASE, b"\0" * 15),
    "define_long": frame(DEFINE, b"x" * 256),
    "goodbye_with_number": frame(GOODBYE, call=1),
}

VALUES = {
    "integers": b"\x00\x7f\xcc\x80\xcd\x01\0\xce\0\x01\0\0\xcf\0\0\0\x01\0\0\0\0"
    b"\xff\xe0\xd0\xdf\xd1\xff\x7f\xd2\x80\0\0\0"
    b"\xd3\x80\0\0\0\0\0\0\0\xcf\x80\0\0\0\0\0\0\0",
    "integers_long_forms": b"\xcc\x05\xcd\0\x05\xce\0\0\0\x05\xcf\0\0\0\0\0\0\0\x05"
    b"\xd0\x05\xd1\xff\xfb\xd2\0\0\0\x05",
    "constants": b"\xc0\xc2\xc3",
    "floats": b"\xcb\x3f\xf8\0\0\0\0\0\0\xca\xbf\xc0\0\0\xca\x7f\xa0\0\x01\xcb\x7f\xf8\xde\xad\0\0\xbe\xef",
    "text": b"\xa0\xa2hi\xd9\x02hi\xda\0\x02hi\xdb\0\0\0\x02hi",
    "bytes": b"\xc4\x02hi\xc5\0\x02hi\xc6\0\0\0\x02hi",
    "arrays": b"\x90\x93\x01\x92\x02\x03\x90\xdc\0\x01\xc0\xdd\0\0\0\x01\xc0",
    "maps": b"\x80\x82\xa1a\x01\xa1b\x81\x02\xc0\xde\0\x01\x01\x02\xdf\0\0\0\x01\x01\x02",
    "extensions": b"\xd4\x09\x00\xd5\x01\0\x01\xd6\x08hihi\xd7\x05hihihihi\xd8\x05hihihihihihihihi"
    b"\xc8\0\x01\x01x"
    b"\xc9\0\0\0\x01\xffx",
    "tuple_of_sets": ext(2, b"\x92" + ext(3, b"\x91\x01") + ext(4, b"\x90")),
    "tuple_with_rest": ext(2, b"\x90\xc0"),
    "collections": ext(28, b"\x93\xabOrderedDict\x81\xa1a\x01\x80")
    + ext(28, b"\x93\xabdefaultdict\xa4list\x81\xa1a\x90")
    + ext(28, b"\x93\xa7Counter\x81\xa1a\x02\x80")
    + ext(28, b"\x93\xa5deque\x02\x92\x01" + ext(28, b"\x93\xa5deque\xc0\x90"))
    + ext(28, b"\x94\xa5range\x00\xd6\x01\0\0\0\x7f\x01")
    + ext(28, b"\x94\xa5slice\xc0\xff\xc0")
    + ext(28, b"\x91\xa8Ellipsis"),
    "torch": ext(29, b"\x92\xa4size\x92\x02\x03")
    + ext(29, b"\x94\xa6device\xa4cuda\x01\xc4\x10" + bytes(range(16)))
    + ext(29, b"\x92\xa8constant\xa7float32")
    + ext(29, b"\x93\xa6result\xa3max\x92\x01\x00"),
    "references": ext(23, b"\x92\0\xce\x80\0\0\0")
    + ext(23, b"\x94\x01\xce\x80\0\0\0\0\xa1f")
    + ext(23, b"\x95\x02\xce\x80\0\0\0\0\xa1T\x91\xa1m"),
    "dtype": ext(30, b"\xa3<f8") + ext(30, b"\x93\xa1A\xa3<f8\x92\x02\x03"),
    "instances": ext(31, b"\x92\xa3app\x92\x01" + ext(31, b"\x92\xa5other\x81\xa1a\x01"))
    + ext(32, b"\x92\xb2fractions.Fraction" + ext(2, b"\x92\x01\x03")),
    "instance_with_rest": ext(31, b"\x92\xa3app\xc0\xc0"),
    "collection_with_rest": ext(28, b"\x91\xa8Ellipsis\xc0"),
    "deep_arrays": b"\x91" * 128 + b"\xc0",
    "too_deep": b"\x91" * 140 + b"\xc0",
    "huge_count": b"\xdd\xff\xff\xff\xff\xc0\xc0",
    "huge_map": b"\xdf\x80\0\0\0\xc0\xc0",
    "reserved": b"\x01\xc1",
    "truncated": b"\x93\x01\xda\0\x05hi",
    "truncated_number": b"\xcd\x01",
    "truncated_double": b"\xcb\x3f\xf8",
    "truncated_length": b"\xc6\0\0",
    "truncated_count": b"\xdc\0",
    "truncated_ext": b"\xc7\x05\x01x",
    "truncated_ext_head": b"\xc8\0",
    "truncated_fixed_ext": b"\xd8\x05hi",
}

OBJECT = b"\xce\x80\0\0\0"  # the first id

REFERENCES = {
    "home": b"\x92\0" + OBJECT,
    "function": b"\x94\x01" + OBJECT + b"\0\xa5plain",
    "function_last_id": b"\x94\x01\xce\xff\xff\xff\xfe\xcd\xff\xff\xa0",
    "object": b"\x95\x02" + OBJECT + b"\x01\xa5Model\x92\xa7predict\xa4load",
    "token": b"\x95\x02" + OBJECT + b"\0\xa5Model\x90",
    "not_utf8": b"\x94\x01" + OBJECT + b"\0\xa2\xff\xfe",
    "integers_long_forms": b"\xdc\0\x02\xd0\0\xcf\0\0\0\0\x80\0\0\0",
    "unknown_kind": b"\x92\x03" + OBJECT,
    "low_id": b"\x92\0\x01",
    "prefetch_id": b"\x92\0\xce\xff\xff\xff\xff",
    "home_with_lease": b"\x93\0" + OBJECT + b"\0",
    "long_name": b"\x94\x01" + OBJECT + b"\0\xda\x03\xe9" + b"x" * 1001,
    "too_many_methods": b"\x95\x02" + OBJECT + b"\0\xa0\xdc\x03\xe9" + b"\xa0" * 1001,
    "method_no_text": b"\x95\x02" + OBJECT + b"\0\xa0\x91\x01",
    "with_rest": b"\x92\0" + OBJECT + b"\xc0",
}


def main() -> None:
    for target, seeds in (("fuzz_frame", FRAMES), ("fuzz_reference", REFERENCES), ("fuzz_value", VALUES)):
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
