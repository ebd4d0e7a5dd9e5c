"""The pickle in a torch file: which tensors it describes, read without running what it asks for.

A pickle is a program for a machine with a stack and a memo. The machine here knows the opcodes that describing tensors
takes, calls nothing, and looks nothing up. Each opcode costs no more than its own bytes account for: what it makes is
never copied, hashed, compared or written out as a whole, which would take exponential time where the memo has nested
the same value in itself again and again. Keys are single values for the same reason.

References
----------
pickletools (opcodes); torch/_utils.py (`_rebuild_tensor_v2`, `_rebuild_parameter`), torch/serialization.py.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.printable import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable

_DTYPES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
_MAX_AXES = 16
_MAX_SIZE = 2**48
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_NAMES = frozenset({
    ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
    *(("torch", storage) for storage in _DTYPES),
})  # fmt: skip


@dataclass(frozen=True)
class TensorClaim:
    """What a pickle says of a tensor: the key and dtype of its storage, and which items of it, as torch counts them."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_contiguous(self) -> bool:
        """Whether items follow each other: as in torch, strides of axes of one say nothing, nor those of no items."""
        if len(self.strides) != len(self.shape):
            return False
        size = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length != 1 and stride != size and 0 not in self.shape:
                return False
            size *= length
        return True


@dataclass(frozen=True)
class _Name:
    """A name that the pickle looks up."""

    module: str
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str


def read_torch_pickle(text: bytes) -> Any:
    """Return what a pickle makes: a `TensorClaim`, or a dict of values by name, of which some may be claims.

    Raises
    ------
    ValueError
        If it ends early, asks for anything that tensors do not need, or contradicts itself.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(text):
            machine.run(opcode.name, argument)
        return machine.result()
    except (IndexError, KeyError) as cause:
        raise ValueError("a pickle that uses what it has not made") from cause


class _Machine:
    """The stack, the places of its marks, and the memo."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._acts: dict[str, Callable[[Any], None]] = {
            "PROTO": _do_nothing, "FRAME": _do_nothing, "STOP": _do_nothing,
            "MARK": lambda _: self._marks.append(len(self._stack)),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "TUPLE": lambda _: self._stack.append(tuple(self._pop_marked())),
            **{f"TUPLE{n}": partial(self._make_tuple, n) for n in (1, 2, 3)},
            "APPEND": lambda _: self._extend(self._pop(1)),
            "APPENDS": lambda _: self._extend(self._pop_marked()),
            "SETITEM": lambda _: self._set_items(self._pop(2)),
            "SETITEMS": lambda _: self._set_items(self._pop_marked()),
            "GLOBAL": lambda argument: self._look_up(*argument.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._look_up(*self._pop(2)),
            "BINPERSID": lambda _: self._stack.append(_storage(*self._pop(1))),
            "REDUCE": lambda _: self._stack.append(_call(*self._pop(2))),
            "BUILD": lambda _: self._ignore_state(),
            **dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._remember),
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda argument: self._stack.append(self._memo[argument])),
        }  # fmt: skip

    def run(self, opcode: str, argument: Any) -> None:
        """Do what one opcode says."""
        if opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _NUMBERS:
            if isinstance(argument, int) and not -(2**63) <= argument < 2**64:
                raise ValueError(f"a number of {argument.bit_length()} bits in the pickle")
            self._stack.append(argument)
        elif opcode in _TEXTS:
            # A lone surrogate is no text: it can be neither written again nor printed.
            if without_surrogates(argument) != argument:
                raise ValueError(f"the name {argument!r} with half a character (a lone surrogate)")
            self._stack.append(argument)
        elif opcode in self._acts:
            self._acts[opcode](argument)
        else:
            raise ValueError(f"{opcode} in the pickle, which tensors do not need")

    def result(self) -> Any:
        """Return what is left once the program has ended."""
        (value,) = self._stack
        return value

    def _pop(self, n: int) -> list[Any]:
        """Take values off the stack that were put there since the last mark."""
        bottom = self._marks[-1] if self._marks else 0
        if len(self._stack) - n < bottom:
            raise IndexError
        values = self._stack[-n:]
        del self._stack[-n:]
        return values

    def _pop_marked(self) -> list[Any]:
        """Take all values off the stack that were put there since the last mark, and the mark."""
        first = self._marks.pop()
        values = self._stack[first:]
        del self._stack[first:]
        return values

    def _make_tuple(self, n: int, _: Any) -> None:
        self._stack.append(tuple(self._pop(n)))

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("a list's items for something else")
        self._stack[-1].extend(values)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("a dict's items for something else")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not (key is None or isinstance(key, str | int | float)):
                raise ValueError("a key that is no name")
            target[key] = value

    def _look_up(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in _NAMES:
            found = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "a name of no text"
            raise ValueError(f"{found} in the pickle")
        self._stack.append(_Name(module, name))

    def _ignore_state(self) -> None:
        """Take the attributes of a dict off the stack: versions of modules, in a model's state."""
        self._pop(1)
        if not isinstance(self._stack[-1], dict):
            raise ValueError("attributes of something that is no dict")

    def _remember(self, number: int) -> None:
        self._memo[number] = self._stack[-1]


def _do_nothing(_: Any) -> None:
    pass


def _storage(pid: Any) -> _Storage:
    """Return the storage that a persistent id names."""
    if not isinstance(pid, tuple) or len(pid) < 3 or pid[0] != "storage":
        raise ValueError("a persistent id that names no storage")
    kind, key = pid[1:3]
    if not isinstance(kind, _Name) or kind.name not in _DTYPES or not isinstance(key, str):
        raise ValueError("a storage of no dtype, or without a name")
    return _Storage(key, _DTYPES[kind.name])


def _call(function: Any, arguments: Any) -> Any:
    """Return what stands for the result of a call."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise ValueError("a call of something that is no function")
    if function.name == "OrderedDict" and not arguments:
        return {}
    if function.name == "_rebuild_parameter" and arguments and isinstance(arguments[0], TensorClaim):
        return arguments[0]
    if function.name == "_rebuild_tensor_v2" and len(arguments) >= 4:
        return _claim(*arguments[:4])
    raise ValueError(f"{function.module}.{function.name} of other arguments than torch's")


def _claim(storage: Any, offset: Any, shape: Any, strides: Any) -> TensorClaim:
    """Return a tensor as it is described, once each part is of its kind and no number is beyond any file."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor of something that is no storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor whose sizes are no tuple")
    if not all(type(size) is int for size in (offset, *shape, *strides)):
        raise ValueError("a tensor of sizes that are no numbers")
    if not all(0 <= size < _MAX_SIZE for size in (offset, *shape)) or len(shape) > _MAX_AXES:
        raise ValueError(f"a tensor of shape {list(shape[: _MAX_AXES + 1])} from item {offset} on")
    return TensorClaim(storage.key, storage.dtype, offset, shape, strides)
