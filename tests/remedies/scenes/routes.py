"""Routes of experts: files in each form, options, counts, and captures of routes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.capture.params import CaptureParams
from ripple_place.capture.routed_sites import find_routed_sites
from ripple_place.graph.profile import read_profile
from ripple_place.tensorfile import TensorSource, write_tensor_file
from ripple_place.trace.counts import counts_source, read_counts
from ripple_place.trace.sources import read_source
from ripple_place.trace.unit_bytes import read_unit_bytes
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.remedies.cases import case, instead
from tests.remedies.scenes.captures import recorded, tiny
from tests.trace.routes.builders import coactivation, json_lines, moe_trace, route_trace

if TYPE_CHECKING:
    from tests.remedies.cases import Attempts


def named(folder: Path, text: str, options: str = "", name: str = "a.csv") -> Path:
    """Write a file and return it as a source, with options."""
    (folder / name).write_text(text)
    return Path(f"routes:{folder / name}{options}")


@case("trace/routes/routings.py:routes_error", "", "an expert that is negative: corrected, or recorded again")
def negative_expert(folder: Path) -> Attempts:
    """A slip of what wrote the routes."""
    yield lambda: read_source(named(folder, route_trace().replace("0,0,0,0,0,3,", "0,0,0,0,0,-3,")))
    yield lambda: read_source(named(folder, route_trace()))
    yield lambda: read_source(named(folder, route_trace()))


@case("trace/routes/routings.py:cut_off_error", "", "a recorder that was killed: its last token is removed, or all is "
      "recorded again")  # fmt: skip
def cut_off(folder: Path) -> Attempts:
    """Of the last token, one expert is missing."""
    lines = route_trace().splitlines(keepends=True)
    yield lambda: read_source(named(folder, "".join(lines[:-1])))
    yield lambda: read_source(named(folder, "".join(lines[:-6])))
    yield lambda: read_source(named(folder, route_trace()))


@case("trace/routes/moe_trace.py:_used_error", "", "lines of a prompt alone: with the experts used, "
      "and without a token that was cut off")  # fmt: skip
def only_a_prompt(folder: Path) -> Attempts:
    """The shortest run is of two tokens, which use expert 1 each."""
    text = "0,1\n0,2\n0,1\n0,3\n1,0\n1,1\n1,2\n1,1\n"
    yield lambda: read_source(named(folder, text))
    yield lambda: read_source(named(folder, text, ",used=2"))
    yield lambda: read_source(named(folder, moe_trace(), ",used=2"))


_READ = "trace/routes/read.py:read_routes"


@case(_READ, "check the path", "routes that are not there: the right path")
def no_routes_there(folder: Path) -> Attempts:
    """A slip."""
    yield lambda: read_source(Path(f"routes:{folder}/b.csv"))
    yield lambda: read_source(named(folder, moe_trace()))


@case(_READ, "convert the routes", "routes in another form: in one of those that are read")
def other_form(folder: Path) -> Attempts:
    """As a table of another tool."""
    yield lambda: read_source(named(folder, "token;layer;expert\n0;0;1\n"))
    yield lambda: read_source(named(folder, json_lines()))


@case(_READ, "leave used=K out", "experts used, of a file that says them: left out")
def used_of_a_route_trace(folder: Path) -> Attempts:
    """The slots say how many there are."""
    yield lambda: read_source(named(folder, route_trace(), ",used=2"))
    yield lambda: read_source(named(folder, route_trace()))


@case(_READ, "or leave experts=N out", "another number of experts than the file says: the right one, or none")
def other_experts(folder: Path) -> Attempts:
    """A slip."""
    yield lambda: read_source(named(folder, route_trace(), ",experts=7"))
    yield lambda: read_source(named(folder, route_trace(), ",experts=6"))
    yield lambda: read_source(named(folder, route_trace()))


@case("trace/mbolt.py:read_coactivation", "check the path", "a table that is not there: the right path")
def no_table(folder: Path) -> Attempts:
    """A slip."""
    (folder / "t.json").write_text(json.dumps(coactivation()))
    yield lambda: read_counts(counts_source(folder / "u.json"))
    yield lambda: read_counts(counts_source(folder / "t.json"))


@case("trace/mbolt.py:read_coactivation", "copy the whole table", "a table that was cut off: a whole one")
def table_cut_off(folder: Path) -> Attempts:
    """Half of its text."""
    text = json.dumps(coactivation())
    (folder / "t.json").write_text(text[:40])
    yield lambda: read_counts(counts_source(folder / "t.json"))
    (folder / "t.json").write_text(text)
    yield lambda: read_counts(counts_source(folder / "t.json"))


@case("trace/mbolt.py:read_coactivation", "mbolt's co-activation table: layers", "a table without layers: a whole one")
def table_without_layers(folder: Path) -> Attempts:
    """Somebody took the layers out."""
    (folder / "t.json").write_text(json.dumps({"model": "m"}))
    yield lambda: read_counts(counts_source(folder / "t.json"))
    (folder / "t.json").write_text(json.dumps(coactivation()))
    yield lambda: read_counts(counts_source(folder / "t.json"))


instead(
    "trace/unit_bytes.py:read_unit_bytes", "", "bytes of a unit that are negative: as they are",
    lambda: read_unit_bytes({"unit_bytes": '{"layers.0": -1}'}),
    lambda: read_unit_bytes({"unit_bytes": '{"layers.0": 9}'}),
)  # fmt: skip
instead(
    "capture/params.py:CaptureParams.__post_init__", "--importance and --sensitivity",
    "importance of experts: of neurons, or none",
    lambda: CaptureParams("a", unit="expert", importance=True), lambda: CaptureParams("a", importance=True),
    lambda: CaptureParams("a", unit="expert"),
)  # fmt: skip


@case("graph/profile.py:_read_counted_as", "", "imported counts of a unit that is none: profiled again")
def counts_of_another_unit(folder: Path) -> Attempts:
    """Somebody changed the metadata."""
    frequency = [TensorSource.of_array("layers.0.frequency", np.ones(3, np.int64))]
    graph = [TensorSource.of_array("layers.0.graph.indptr", np.zeros(4, np.int64))]
    graph += [TensorSource.of_array(f"layers.0.graph.{part}", np.zeros(0, np.int32)) for part in ("indices", "counts")]
    metadata = {"format": "ripple-place.profile/1", "blocks": '{"layers.0": 3}', "unit": "head"}
    write_tensor_file(folder / "p", [*frequency, *graph], metadata)
    yield lambda: read_profile(folder / "p")
    (folder / "t.json").write_text(json.dumps(coactivation()))
    profile(folder / "t.json", folder / "p", ProfileParams(force=True))
    yield lambda: read_profile(folder / "p")


# Mixtures whose routes cannot be recorded.

_SITES = "capture/routed_sites.py"


class Experts:
    """A module of experts as transformers calls them."""

    num_experts = 4

    def forward(self, hidden_states: object, top_k_index: object, top_k_weights: object) -> None:
        """Take what the router chose."""


class OtherExperts:
    """A module of experts that is called otherwise."""

    def forward(self, hidden_states: object) -> None:
        """Route by itself."""


def sites_of(*modules: tuple[str, object], reads: str = "input_ids") -> None:
    """Find the sites of a model of these modules."""
    model = SimpleNamespace(
        main_input_name=reads, config=SimpleNamespace(is_encoder_decoder=False), named_modules=lambda: iter(modules)
    )
    find_routed_sites(model, Path("model"))


def recorded_by_own_code(folder: Path) -> None:
    """Read routes that somebody's own code wrote."""
    read_source(named(folder, json_lines(), name="own.jsonl"))


@case(f"{_SITES}:find_routed_sites", "a model that reads text", "a model of images: recorded with code of one's own")
def mixture_of_images(folder: Path) -> Attempts:
    """It has experts, and reads pixels."""
    yield lambda: sites_of(("layers.0.experts", Experts()), reads="pixel_values")
    yield partial(recorded_by_own_code, folder)


@case(f"{_SITES}:find_routed_sites", "one of each layer", "two mixtures in a layer: recorded with code of one's own")
def two_mixtures(folder: Path) -> Attempts:
    """As in layers with a mixture for words and one for images."""
    yield lambda: sites_of(("layers.0.text.experts", Experts()), ("layers.0.image.experts", Experts()))
    yield partial(recorded_by_own_code, folder)


@case(f"{_SITES}:_check_all_seen", "which routes in a way", "experts that route by themselves: recorded with code of "
      "one's own")  # fmt: skip
def experts_of_their_own(folder: Path) -> Attempts:
    """As those of Switch Transformers."""
    yield lambda: sites_of(("layers.0.experts", OtherExperts()))
    yield partial(recorded_by_own_code, folder)


@case(f"{_SITES}:_check_all_seen", "leave --unit expert out", "experts of a dense model: its neurons", needs_torch=True)
def dense_model(folder: Path) -> Attempts:
    """It has no experts."""
    model = tiny(folder)
    yield lambda: recorded(model, rule="routed", unit="expert")
    yield lambda: recorded(model)
