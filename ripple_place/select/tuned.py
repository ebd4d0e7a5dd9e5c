"""What was tuned for an output, as its directory keeps it: ``selection.json`` and ``compensation.safetensors``.

Nothing of it is in the weights: OUT stays the same model, and readers that choose what they read take it from here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.checkpoint.names import COMPENSATION_FILE, SELECTION_FILE
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.flash.device.conditions import ReadConditions
from ripple_place.inputfile import read_input
from ripple_place.jsontext import parse_json
from ripple_place.predict.params import TRUE
from ripple_place.printable import listed
from ripple_place.select.rule import Tuning
from ripple_place.tensorfile import TensorFile, TensorSource, tensor_file_pieces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ripple_place.arrays import Float32Array
    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.select.rule import Rule

SELECTION_FORMAT = "ripple-place.selection/1"
COMPENSATION_FORMAT = "ripple-place.compensation/1"
_AGAIN = "run `ripple-place reorder --select` again"


@dataclass(frozen=True)
class ReaderNote:
    """The reader that a rule was tuned for: another one pays other prices.

    Attributes
    ----------
    device : str
        Its name, and the conditions of reading where they are not the default ones.
    collapse : str
        ``auto``, or what else decides which gaps are read through.
    cache : str
        Policy.
    capacity_neurons : mapping of str to int
        By block in which rules work.
    activity : str
        ``true`` where rules see what fires, or ``predicted at`` a recall.
    """

    device: str
    collapse: str
    cache: str
    capacity_neurons: Mapping[str, int]
    activity: str = TRUE

    @classmethod
    def of(
        cls, device: ConditionedDevice, simulation: SimulationParams, layout: Layout, activity: str = TRUE
    ) -> ReaderNote:
        """Return the note of a simulated reader."""
        capacity = {name: simulation.capacity_neurons.get(name, 0) for name in layout.blocks}
        is_usual = device.conditions == ReadConditions()
        name = device.name if is_usual else f"{device.name} under {json.dumps(asdict(device.conditions))}"
        return cls(
            name, "auto" if simulation.gap is None else str(simulation.gap), simulation.cache, capacity, activity
        )

    def difference(self, other: ReaderNote) -> tuple[str, str] | None:
        """Return what differs, as this one has it and as the other has it; None if nothing does."""
        if self.device != other.device:
            return f"device {self.device}", f"device {other.device}"
        if self.collapse != other.collapse:
            return f"collapse {self.collapse}", f"collapse {other.collapse}"
        if self.cache != other.cache:
            return f"cache {self.cache}", f"cache {other.cache}"
        if self.activity != other.activity:
            return f"activity that is {self.activity}", f"activity that is {other.activity}"
        if self.capacity_neurons.keys() != other.capacity_neurons.keys():
            return f"blocks {listed([*self.capacity_neurons])}", f"blocks {listed([*other.capacity_neurons])}"
        for block, capacity in self.capacity_neurons.items():
            if capacity != (others := other.capacity_neurons[block]):
                return f"DRAM for {capacity} neurons of {block}", f"DRAM for {others} neurons of {block}"
        return None


@dataclass(frozen=True, eq=False)
class TunedRule:
    """A rule, and what was fitted for it.

    Attributes
    ----------
    rule : str
        As it is written.
    reader : ReaderNote
    tuning : Tuning
    importance : str
        ``fisher``, or ``size`` where no gradients were measured.
    report : mapping of str to anything JSON has
        On how many tokens of what text it was tuned, and the loss there.
    """

    rule: str
    reader: ReaderNote
    tuning: Tuning
    importance: str
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TunedRules:
    """All rules that an output was tuned for.

    Attributes
    ----------
    rules : mapping of str to TunedRule
    """

    rules: Mapping[str, TunedRule]

    def files(self) -> dict[str, bytes]:
        """Return the content of both files, by the name that OUT gives them; the same rules give the same bytes."""
        shared, tensors = _Shared(), []
        for index, tuned in enumerate(self.rules.values()):
            for name, vector in tuned.tuning.compensation.items():
                tensors.append(TensorSource.of_array(f"{name}.compensation.{index}", vector))
            shared.add(tuned.tuning)
        tensors = [*shared.tensors(), *tensors]
        content = b"".join(bytes(piece) for piece in tensor_file_pieces(tensors, {"format": COMPENSATION_FORMAT}))
        document = {
            "format": SELECTION_FORMAT,
            "compensation_sha256": hashlib.sha256(content).hexdigest(),
            "rules": self.to_json(),
        }
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        return {SELECTION_FILE: text.encode(), COMPENSATION_FILE: content}

    def to_json(self) -> list[dict[str, Any]]:
        """Return what ``selection.json`` says of each rule."""
        return [
            {
                "rule": tuned.rule,
                "price_nats_per_us": tuned.tuning.price,
                "thresholds": dict(tuned.tuning.thresholds),
                "importance": tuned.importance,
                "device": tuned.reader.device,
                "collapse": tuned.reader.collapse,
                "cache": tuned.reader.cache,
                "capacity_neurons": dict(tuned.reader.capacity_neurons),
                **({} if tuned.reader.activity == TRUE else {"activity": tuned.reader.activity}),
                "compensated_blocks": list(tuned.tuning.compensation),
                "tuning": dict(tuned.report),
            }
            for tuned in self.rules.values()
        ]

    def tuning_for(self, where: str, rule: Rule, reader: ReaderNote) -> Tuning | None:
        """Return what was fitted for a rule; None if it was not tuned here.

        Raises
        ------
        UsageError
            If it was tuned for another reader.
        """
        tuned = self.rules.get(str(rule))
        if tuned is None:
            return None
        # Thresholds and compensation fit any reader; prices do not.
        if tuned.tuning.price is not None and (difference := tuned.reader.difference(reader)) is not None:
            raise UsageError(
                f"--layout {where} --select {rule}", found=f"a rule that was tuned for {difference[0]}",
                expected=f"one that was tuned for {difference[1]}, as simulated",
                remedy="simulate with the --device, --cache, --dram-budget, --layers and --activity of then, or tune "
                "it again",
            )  # fmt: skip
        return tuned.tuning


class _Shared:
    """Importance and sensitivity, which all rules of an output have in common."""

    def __init__(self) -> None:
        self._importance: dict[str, Float32Array] = {}
        self._sensitivity: dict[str, Float32Array] = {}

    def add(self, tuning: Tuning) -> None:
        self._importance |= tuning.importance
        self._sensitivity |= tuning.sensitivity

    def tensors(self) -> list[TensorSource]:
        named = [(f"{name}.importance", array) for name, array in self._importance.items()]
        named += [(f"{name}.sensitivity", array) for name, array in self._sensitivity.items()]
        return [TensorSource.of_array(name, np.ascontiguousarray(array, np.float32)) for name, array in named]


def read_tuned(out: Path) -> TunedRules | None:
    """Read what was tuned for an output; None if nothing was.

    Raises
    ------
    CheckpointError
        If a file is damaged, missing, or not the one that belongs to the other.
    OSError
        If it cannot be read.
    """
    path, beside = out / SELECTION_FILE, out / COMPENSATION_FILE
    if not path.exists():
        return None
    try:
        document = parse_json(read_input(path))
        if not isinstance(document, dict) or document.get("format") != SELECTION_FORMAT:
            raise ValueError(f"format {document.get('format')!r}" if isinstance(document, dict) else "no object")
        if not beside.is_file() or hashlib.sha256(read_input(beside)).hexdigest() != document["compensation_sha256"]:
            raise ValueError(f"{beside.name} missing or changed")
        file = TensorFile.open(beside, CheckpointError)
        importance, sensitivity = _ending(file, ".importance"), _ending(file, ".sensitivity")
        if any((values < 0).any() for values in importance.values()):
            raise ValueError("importance below 0")
        entries = document["rules"]
        if not isinstance(entries, list) or not entries:
            raise ValueError("no rules")
        rules = {}
        for index, entry in enumerate(entries):
            compensation = {name: _vector(file, f"{name}.compensation.{index}") for name in entry["compensated_blocks"]}
            tuned = _tuned_rule(entry, replace(Tuning.nothing(), importance=importance, sensitivity=sensitivity))
            if tuned.rule in rules:
                raise ValueError(f"{tuned.rule} twice")
            rules[tuned.rule] = replace(tuned, tuning=replace(tuned.tuning, compensation=compensation))
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        if isinstance(cause, CheckpointError):
            raise
        raise CheckpointError(
            path, found=str(cause), expected=f"a file of format {SELECTION_FORMAT}", remedy=_AGAIN
        ) from cause
    return TunedRules(rules)


def _tuned_rule(entry: Mapping[str, Any], known: Tuning) -> TunedRule:
    """Return what an entry of the document says of a rule.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        If it is malformed.
    """
    price, thresholds, capacity = entry["price_nats_per_us"], entry["thresholds"], entry["capacity_neurons"]
    numbers = [*([] if price is None else [price]), *thresholds.values(), *capacity.values()]
    if not all(type(number) in (int, float) and 0 <= number <= sys.float_info.max for number in numbers):
        raise ValueError(f"{entry['rule']}: a price, threshold or capacity that is no number")
    texts = [entry[key] for key in ("rule", "device", "collapse", "cache", "importance")]
    texts.append(entry.get("activity", TRUE))
    if not all(isinstance(text, str) for text in texts) or not isinstance(entry["tuning"], dict):
        raise ValueError(f"rule {texts[0]!r}: a value that is no text, or no object")
    rule, device, collapse, cache, method, activity = texts
    tuning = replace(known, price=price, thresholds=thresholds)
    return TunedRule(rule, ReaderNote(device, collapse, cache, capacity, activity), tuning, method, entry["tuning"])


def _ending(file: TensorFile, ending: str) -> dict[str, Float32Array]:
    """Return the vectors whose names end so, by what comes before."""
    return {name.removesuffix(ending): _vector(file, name) for name in file.tensors if name.endswith(ending)}


def _vector(file: TensorFile, name: str) -> Float32Array:
    """Return a vector of finite numbers."""
    if name not in file.tensors:
        raise ValueError(f"no tensor {name}")
    array: Float32Array = file.array(name, dtype="F32", n_axes=1)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: a value that is NaN or infinite")
    return array
