"""Mutations of files: bytes flipped, cut and repeated, and JSON in which any value has become another."""

from __future__ import annotations

import copy
import io
import json
import math
import re
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, 0.5, -0.0,
    1e308, math.inf, math.nan, "", "0", "F32", "BF16", "F4", "I64", "U8", "\ud800", "a\nb\x1b[31m", "..", "/etc/passwd",
    "../../../etc/passwd", "layers.0", "layers.00", "layers.999999999", "x" * 5000, "9" * 5000, [], {}, [0], [1, 0],
    [0, -1], [0, 2**62], [2**62] * 40, [1] * 70, [[]], [None], {"a": 1}, {"": {}}, {"dtype": "U8"},
)  # fmt: skip


def mutate_json(document: Any, rng: random.Random) -> bytes:
    """Return a JSON document as text with one to three values replaced, removed, renamed, swapped or doubled."""
    document = json.loads(json.dumps(document))
    doubled = False
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        parent, key = rng.choice(places)
        action = rng.randrange(10)
        if action < 5:
            parent[key] = copy.deepcopy(rng.choice(HOSTILE))
        elif action == 5:
            del parent[key]
        elif action == 6 and isinstance(parent, dict):
            other = rng.choice([name for name in HOSTILE if isinstance(name, str)])
            parent[other] = parent.pop(key)
        elif action == 7:
            other_parent, other_key = rng.choice(places)
            parent[key] = json.loads(json.dumps(other_parent[other_key]))
        elif action == 8 and isinstance(parent[key], int):
            parent[key] += rng.choice((-8, -1, 1, 8, 2**31))
        else:
            doubled = True
    text = json.dumps(document)
    if doubled and isinstance(document, dict) and document:
        name = rng.choice(list(document))
        text = "{" + json.dumps(name) + ":" + json.dumps(rng.choice(HOSTILE)) + "," + text[1:]
    if rng.random() < 0.02:
        depth = rng.choice((100, 2_000, 50_000))
        text = text.replace("1", "[" * depth + "]" * depth, 1)
    return text.encode()


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes of which some are flipped, cut out, repeated or replaced."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not changed:
            break
        at = rng.randrange(len(changed))
        action = rng.randrange(6)
        if action == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            changed[at] = rng.choice(b'\x00\xff\x80{}[]",:0-9e\\')
        elif action == 2:
            del changed[at : at + rng.choice((1, 8, 100))]
        elif action == 3:
            changed[at:at] = changed[at : at + rng.choice((1, 8, 100))]
        elif action == 4:
            del changed[at:]
        else:
            changed += bytes(rng.choice((1, 8, 4096)))
    return bytes(changed)


def mutate_lines(data: bytes, rng: random.Random) -> bytes:
    """Return JSON lines of which one or two are changed as `mutate_json` does, removed or doubled."""
    lines = data.splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        at, action = rng.randrange(len(lines)), rng.randrange(8)
        if action < 6:
            with suppress(ValueError):
                lines[at] = mutate_json(json.loads(lines[at]), rng)
        elif action == 6 and len(lines) > 1:
            del lines[at]
        else:
            lines.insert(at, lines[at])
    return b"\n".join(lines) + b"\n"


def mutate_numbers(data: bytes, rng: random.Random) -> bytes:
    """Return a text in which one to three numbers have become others, wild ones more often than not."""
    text = data.decode()
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [match.span() for match in re.finditer(r"(?<![\w.])\d[\d.]*", text.partition("[sources]")[0])]
        start, end = rng.choice(places)
        other = rng.choice((*_NUMBERS, text[slice(*rng.choice(places))], text[start:end] + "0", text[start : end - 1]))
        text = text[:start] + other + text[end:]
    return text.encode()


_NUMBERS = (
    "0", "1", "-1", "-0.0", "2", "64", "1e-320", "1e-9", "0.001", "1e9", "1e13", "4e39", "1e308", "1e400", "inf", "nan",
    "true", "67108864", "2147483648", "9223372036854775808", "1" + 40 * "0", "0x" + 2000 * "f",
)  # fmt: skip


def mutate_container(data: bytes, rng: random.Random) -> bytes:
    """Return a safetensors file with its header's JSON, its length field or any of its bytes changed."""
    length = int.from_bytes(data[:8], "little")
    action = rng.randrange(10)
    if action < 6:
        document = json.loads(data[8 : 8 + length])
        metadata = document.get("__metadata__", {})
        inner = [key for key, value in metadata.items() if value[:1] in "{["]
        if inner and rng.random() < 0.3:
            key = rng.choice(inner)
            metadata[key] = mutate_json(json.loads(metadata[key]), rng).decode()
            header = json.dumps(document).encode()
        else:
            header = mutate_json(document, rng)
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    if action == 6:
        lie = rng.choice((0, 1, length - 1, length + 1, len(data), len(data) - 8, 10**8, 10**8 + 1, 2**63, 2**64 - 1))
        return lie.to_bytes(8, "little") + data[8:]
    if action == 7:
        return data[:8] + mutate_bytes(data[8 : 8 + length], rng)[:length].ljust(length) + data[8 + length :]
    if action == 8:
        return data[: 8 + length] + mutate_bytes(data[8 + length :], rng)
    return mutate_bytes(data, rng)


_PIECES = (
    *(bytes([opcode]) for opcode in b"]})(N\x88\x85\x86\x87teasuRbQo02\x81\x92\x93\x94."), b"K\x02",
    b"J\xff\xff\xff\xff",
    b"\x8a\x08" + bytes(range(8)), b"X\x01\0\0\0a", b"X\x01\0\0\x000", b"X\x07\0\0\0storage", b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n", b"ccollections\nOrderedDict\n",
    b"cos\nsystem\n", b"\x82\x01", b"\x95" + b"\xff" * 8,
)  # fmt: skip
"""Opcodes of pickle, with what they take along."""


def invent_torch_file(data: bytes, rng: random.Random) -> bytes:
    """Return a torch file whose pickle is put together at random, or so goes on from somewhere in a sound one."""
    source, target = io.BytesIO(data), io.BytesIO()
    with zipfile.ZipFile(source) as sound, zipfile.ZipFile(target, "w") as archive:
        for name in sound.namelist():
            text = sound.read(name)
            if name.endswith("/data.pkl"):
                text = rng.choice((b"\x80\x02", text[: rng.randrange(len(text))])) + _invent_program(rng)
            archive.writestr(name, text)
    return target.getvalue()


def _invent_program(rng: random.Random) -> bytes:
    """Return opcodes that often take up again what was remembered last, so that values nest."""
    program, remembered = rng.choice((b"", b"]q\0", b")q\0", b"}q\0")), 0
    for _ in range(rng.choice((3, 30, 300))):
        action = rng.randrange(4)
        if action == 0:
            program += rng.choice(_PIECES)
        elif action == 1:
            program += b"h" + bytes([max(0, remembered - rng.choice((0, 0, 0, 1, 9)))])
        elif action == 2 and remembered < 255:
            remembered += 1
            program += b"q" + bytes([remembered])
        else:
            twice = 2 * (b"h" + bytes([remembered]))
            program += rng.choice(
                (twice + b"\x86", b"](" + twice + b"e", b"}(N" + twice[:2] + b"\x89" + twice[:2] + b"u")
            )
    return program + rng.choice((b".", b"", b"R.", b"s.", b"Q.", b"b."))


def _places(value: Any) -> Any:
    """Yield every place in a JSON document: its container and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
