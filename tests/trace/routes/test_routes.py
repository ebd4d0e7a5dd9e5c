"""Readers of routes: each form against a plain reading of the same routes, and every way in which one can be wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.experts.accesses import list_accesses, unit_bytes_of
from ripple_place.graph.profile import read_profile
from ripple_place.trace.activation_trace import DECODE, PREFILL
from ripple_place.trace.adapters import AdapterSource
from ripple_place.trace.counts import counts_source, read_counts
from ripple_place.trace.files import read_trace
from ripple_place.trace.routes.read import form_of_routes
from ripple_place.trace.routes.routings import MAX_EXPERTS, Routings, trace_of_routings
from ripple_place.trace.sources import read_source, read_sources
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.trace.routes.builders import (
    BYTES,
    N_TOKENS,
    ROUTES,
    WEIGHTS,
    coactivation,
    json_lines,
    moe_trace,
    route_trace,
    write_routes,
)
from tests.trace_builders import unpack, write_stock_trace

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace

DATA = Path(os.environ.get("RIPPLE_PLACE_DATA", "/nowhere"))


def read(folder: Path, text: str | bytes, name: str = "x", options: str = "") -> ActivationTrace:
    """Write a file and read it as routes."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_source(Path(f"routes:{folder / name}{options}") if options else folder / name)


def routes_in(trace: ActivationTrace) -> set[tuple[int, int, tuple[int, ...]]]:
    """Return the token, layer and experts of every row of a trace."""
    found = set()
    for name, block in trace.blocks.items():
        tokens = range(trace.n_tokens) if block.token_index is None else block.token_index.tolist()
        for token, active in zip(tokens, unpack(block), strict=True):
            found.add((token, int(name.removeprefix("layers.")), tuple(np.flatnonzero(active).tolist())))
    return found


def number(turn: int, token: int) -> int:
    """Return the token of the trace that a token of a turn is: the first turn has five."""
    return 5 * turn + token


EXPECTED = {(number(turn, token), layer, tuple(sorted(experts))) for turn, _, token, layer, experts in ROUTES}
PHASES = [PREFILL] * 3 + [DECODE] * 2 + [PREFILL] * 2 + [DECODE]


@pytest.mark.parametrize("form", ["a.route.csv", "moe.csv", "routes.jsonl"])
@pytest.mark.parametrize("is_named", [True, False])
def test_each_form(tmp_path: Path, form: str, is_named: bool) -> None:
    """Every form tells the same routes, phases and turns, under its usual name or any other."""
    write_routes(tmp_path)
    path = tmp_path / form
    if not is_named:
        path = path.rename(tmp_path / "routes")
    trace = read_source(path)
    assert (trace.unit, trace.n_tokens, trace.segment_starts.tolist()) == ("expert", N_TOKENS, [0, 5])
    assert trace.phases is not None
    assert trace.phases.tolist() == PHASES
    assert routes_in(trace) == EXPECTED
    assert [block.n_neurons for block in trace.blocks.values()] == [6, 6, 6]
    assert trace.blocks["layers.0"].token_index is None
    assert trace.metadata["activity"] == "routed"
    if form != "moe.csv":
        assert unit_bytes_of(trace) == BYTES
        assert trace.metadata["model"] == "tiny.gguf"
        for block in trace.blocks.values():
            assert block.magnitudes is not None
            assert sorted(set(block.magnitudes.values[:].tolist())) == sorted(WEIGHTS)


def test_weights_give_the_order(tmp_path: Path) -> None:
    """Accesses of generated tokens come as the routes list them: by descending weight."""
    trace = read(tmp_path, route_trace())
    accesses = list_accesses(trace)
    layers = [0, 1, 3]
    asked = [
        (int(token), layers[layer], int(item - accesses.first_item[layer]))
        for token, layer, item, is_decode in zip(
            accesses.tokens, accesses.layers, accesses.items, accesses.is_decode, strict=True
        )
        if is_decode
    ]
    assert asked == [
        (number(turn, token), layer, expert)
        for turn, phase, token, layer, experts in ROUTES if phase == 1 for expert in experts
    ]  # fmt: skip


def test_a_profile_keeps_them(tmp_path: Path) -> None:
    """Through a profile come phases, weights and bytes; counts are those of the rows, the verdict is on experts."""
    write_routes(tmp_path)
    report = profile(tmp_path / "a.route.csv", tmp_path / "p", ProfileParams())
    assert report.verdict is None
    assert report.experts is not None
    assert "There is" in report.to_json()["verdict"]["sentences"][1]
    held = read_profile(tmp_path / "p")
    assert (held.unit, held.trace is not None) == ("expert", True)
    counts = np.zeros(6, int)
    for _, _, _, layer, experts in ROUTES:
        counts[experts] += layer == 0
    assert held.blocks["layers.0"].frequency.tolist() == counts.tolist()
    trace = read_trace(tmp_path / "p")
    assert trace.phases is not None
    assert trace.phases.tolist() == PHASES
    assert unit_bytes_of(trace) == BYTES
    assert routes_in(trace) == EXPECTED
    profile(tmp_path / "a.route.csv", tmp_path / "q", ProfileParams(html=tmp_path / "page"))
    assert "Hits against slots" in (tmp_path / "page").read_text()
    unjudged = profile(tmp_path / "a.route.csv", tmp_path / "r", ProfileParams(verdict=None))
    assert unjudged.to_json()["verdict"] is None


def test_joined_traces(tmp_path: Path) -> None:
    """Laid one after the other, traces keep phases and bytes, unless they disagree on these."""
    write_routes(tmp_path)
    (tmp_path / "b.csv").write_text(route_trace())
    both = read_sources([tmp_path / "a.route.csv", tmp_path / "b.csv"])
    assert both.phases is not None
    assert both.phases.tolist() == 2 * PHASES
    assert unit_bytes_of(both) == BYTES
    (tmp_path / "b.csv").write_text(route_trace().replace("expert_bytes=3000", "expert_bytes=3001"))
    assert unit_bytes_of(read_sources([tmp_path / "a.route.csv", tmp_path / "b.csv"])) == {}
    assumed = read_sources([tmp_path / "a.route.csv", tmp_path / "moe.csv"])
    assert assumed.metadata["assumed"].startswith("2 experts a token and layer (the rows of the shortest run")
    write_stock_trace(tmp_path / "neurons", {"layers.0": np.ones((4, 6))})
    with pytest.raises(TraceFormatError, match="blocks of experts and of neurons"):
        read_sources([tmp_path / "a.route.csv", tmp_path / "neurons"])


@pytest.mark.skipif(not DATA.is_dir(), reason="RIPPLE_PLACE_DATA names no data")
@pytest.mark.parametrize(
    ("name", "shape", "n_routings"),
    [("qwen", (156, 48), 44766), ("gemma", (157, 30), 28260), ("gptoss", (149, 36), 10560)],
)
def test_recorded_traces(name: str, shape: tuple[int, int], n_routings: int) -> None:
    """Real traces: as many tokens, layers and routings as the file has."""
    trace = read_source(DATA / "expert-routes" / f"{name}.route.csv")
    assert (trace.n_tokens, len(trace.blocks)) == shape
    assert list_accesses(trace).items.size == n_routings
    assert len(unit_bytes_of(trace)) == shape[1]


# Route traces.


def changed(text: str, old: str, new: str) -> str:
    """Return a text with its first `old` replaced, which must be there."""
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# route_trace v1", "# route_trace v2", "found '# route_trace v2'; expected # route_trace v1"),
        ("n_expert=6", "n_expert=five", "found n_expert=five; expected a number from 1 to"),
        ("n_expert=6", "n_expert=5", "found expert 5; expected 0 to 4"),
        ("n_expert=6", f"n_expert={MAX_EXPERTS + 1}", f"found {MAX_EXPERTS + 1} experts; expected 1 to {MAX_EXPERTS}"),
        ("n_expert_used=2", "n_expert_used=3", r"found slots \[0, 1\]; expected slots 0 to 2.*Remove the rows of that"),
        ("expert_bytes=3000", "expert_bytes=-3", "found expert_bytes of layer 0=-3; expected a number"),
        ("turn,phase", "turn,turn", "found columns 'turn,turn"),
        ("turn,phase", "lap,phase", "found columns 'lap,phase"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,3,0.75,0", "columns changed"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,x,0.75,0,0", "could not convert string 'x'"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,-3,0.75,0,0", "row 1: found expert -3; expected a whole number"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,3.5,0.75,0,0", "found expert 3.5"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,6,0.75,0,0", "found expert 6; expected 0 to 5"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,nan,0.75,0,0", "found expert nan"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,1e300,0.75,0,0", r"found expert 1e\+300"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,3,nan,0,0", "found weight nan; expected a finite float32"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,3,1e39,0,0", r"found weight 1e\+39"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,0,1,0.75,0,0", "turn 0, token 0, layer 0: found expert 1 twice"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,0,7,3,0.75,0,0", r"step 0, layer 0: found slots \[1, 7\]"),
        ("0,0,0,0,0,3,0.75,0,0", "0,2,0,0,0,3,0.75,0,0", r"found phase 2; expected 0 \(prefill\) or 1"),
        ("0,0,0,0,0,3,0.75,0,0", "0,1,0,0,0,3,0.75,0,0", "found 1 layers; expected 3"),
        ("0,0,0,0,0,3,0.75,0,0", "0,0,0,1000000000,0,3,0.75,0,0", r"found slots|found layer 1000000000"),
    ],
)  # fmt: skip
def test_malformed_route_traces(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each way in which a number or the header is wrong."""
    with pytest.raises(TraceFormatError, match=message):
        read(tmp_path, changed(route_trace(), old, new))


def test_a_token_in_two_phases(tmp_path: Path) -> None:
    """Prefill in one layer, generated in another."""
    text = changed(json_lines(), '"phase": "prefill"', '"phase": "decode"')
    with pytest.raises(TraceFormatError, match="turn 0, token 0: found two phases"):
        read(tmp_path, text)


@pytest.mark.parametrize("n_lost", [1, 2, 3, 4, 5])
def test_route_traces_cut_off_after_a_row(tmp_path: Path, n_lost: int) -> None:
    """A recorder that was killed: its last token is generated, and lacks experts or layers."""
    lines = route_trace().splitlines(keepends=True)
    with pytest.raises(TraceFormatError, match="Remove the rows of that token"):
        read(tmp_path, "".join(lines[:-n_lost]))
    read(tmp_path, "".join(lines[:-6]))


@pytest.mark.parametrize("cut", [10, 40, 60])
def test_headers_cut_off(tmp_path: Path, cut: int) -> None:
    """Within the header: no rows."""
    with pytest.raises(TraceFormatError, match=r"nothing below it|expected # route_trace v1|no routes"):
        read(tmp_path, route_trace()[:cut], "x.csv")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """In the header, among the numbers and in JSON."""
    for text in (route_trace(), moe_trace(), json_lines()):
        data = text.encode()
        for at in (len(data) // 2, len(data) - 3):
            with pytest.raises(TraceFormatError, match="bytes that are not UTF-8"):
                read(tmp_path, data[:at] + b"\xff" + data[at:])
    assert read(tmp_path, b"\xef\xbb\xbf" + route_trace().encode()).n_tokens == N_TOKENS


# Lines of layer and expert.


def reference(rows: list[tuple[int, int]], used: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return token, layer and experts by the rule of the docs, row by row."""
    batches: list[list[tuple[int, list[int]]]] = []
    last = None
    for layer, expert in rows:
        if last is not None and layer == last:
            batches[-1][-1][1].append(expert)
            continue
        if last is None or layer < last:
            batches.append([])
        batches[-1].append((layer, [expert]))
        last = layer
    found, first = [], 0
    for batch in batches:
        size = max(len(experts) for _, experts in batch) // used
        for layer, experts in batch:
            own = len(experts) // used
            found += [
                (first + size - own + i, layer, tuple(sorted(experts[i * used : (i + 1) * used]))) for i in range(own)
            ]
        first += size
    return found


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6), used=st.integers(1, 3), n_layers=st.integers(2, 3),
    has_header=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
def test_lines_by_the_plain_rule(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], used: int, n_layers: int, has_header: bool, seed: int
) -> None:
    """Batches of any size: those of one token are generated, others are prompts."""
    rng = np.random.default_rng(seed)
    rows = [
        (layer, int(expert))
        for size in sizes for layer in range(n_layers) for _ in range(size)
        for expert in rng.permutation(5)[:used]
    ]  # fmt: skip
    text = ("layer,expert\n" if has_header else "") + "".join(f"{layer},{expert}\n" for layer, expert in rows)
    folder = tmp_path_factory.mktemp("routes")
    trace = read(folder, text, options=f",used={used}")
    assert routes_in(trace) == {*reference(rows, used)}
    assert trace.phases is not None
    assert trace.phases.tolist() == [DECODE if size == 1 else PREFILL for size in sizes for _ in range(size)]
    if 1 in sizes:
        assert routes_in(read(folder, text)) == {*reference(rows, used)}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0,1\n0,2\n", "", "one layer, whose rows say nothing of where a token ends.*routes:FILE,used=8"),
        ("0,1\n0,1\n1,0\n1,1\n", "", "rows 1 to 2: found an expert twice for a token of layer 0.*used=8"),
        ("0,1\n0,2\n1,0\n1,1\n1,2\n", "", "row 3: found 3 rows of layer 1, no multiple of the 2 of the shortest run"),
        ("0,1\n0,2\n1,0\n1,1\n", ",used=4", "found 2 rows of layer 0, no multiple of the 4 of used"),
        ("0,1\n1,1\n2,0\n0,1\n1,2\n", "", "turn 0, token 1: found 2 layers; expected 3"),
        ("layer,expert\n", "", "found no row; expected rows of 2 numbers: layer, expert"),
        ("0,1\n0,2,3\n", "", "columns changed"),
        ("0,1\n1,-2\n", "", "row 2: found expert -2"),
        ("0,1\n1,4096\n", "", "found expert 4096; expected 0 to 4095"),
        ("0,1\n1,2\n", ",experts=2", "found expert 2; expected 0 to 1"),
    ],
)  # fmt: skip
def test_malformed_lines(tmp_path: Path, text: str, options: str, message: str) -> None:
    """What cannot be cut into tokens is not guessed at."""
    with pytest.raises(TraceFormatError, match=message):
        read(tmp_path, text, options=options)


def test_one_layer(tmp_path: Path) -> None:
    """With the number of experts used, tokens can be told; phases cannot."""
    trace = read(tmp_path, "7,1\n7,2\n7,0\n7,1\n", options=",used=2,experts=9")
    assert routes_in(trace) == {(0, 7, (1, 2)), (1, 7, (0, 1))}
    assert trace.phases is None
    assert trace.blocks["layers.7"].n_neurons == 9
    assert trace.metadata["assumed"].startswith("2 experts a token and layer (as given)")


# JSON lines.


def test_a_line_for_each_token(tmp_path: Path) -> None:
    """All layers of a token in one object; tokens are counted where no line numbers them."""
    lines = [
        {"layers": [[3, 1], None, [0]], "weights": [[0.5, 0.25], None, [1]], "phase": "prefill"},
        {"layers": [[1, 2], [], [4]], "weights": [[0.5, 0.5], [], [1.0]], "phase": "decode"},
    ]
    trace = read(tmp_path, "\n\n".join(map(json.dumps, lines)))
    assert routes_in(trace) == {(0, 0, (1, 3)), (0, 2, (0,)), (1, 0, (1, 2)), (1, 2, (4,))}
    magnitudes = trace.blocks["layers.0"].magnitudes
    assert magnitudes is not None
    assert (magnitudes.indices[:].tolist(), magnitudes.values[:].tolist()) == ([1, 3, 1, 2], [0.25, 0.5, 0.5, 0.5])
    assert trace.blocks["layers.0"].n_neurons == 5
    plain = read(tmp_path, '{"layers": [[3, 1]]}\n{"layers": [[0, 2]]}')
    assert (plain.phases, plain.blocks["layers.0"].magnitudes) == (None, None)


GOOD = {"token": 0, "layer": 3, "experts": [1, 5]}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (GOOD | {"token": -1}, "line 2: found token -1"),
        (GOOD | {"token": None}, "found token None"),
        (GOOD | {"token": True}, "found token True"),
        (GOOD | {"token": 2**70}, "found token 1180591620717411303424"),
        (GOOD | {"layer": 10**9}, "found layer 1000000000; expected 0 to 999999999"),
        (GOOD | {"layer": "3"}, "found layer '3'"),
        (GOOD | {"experts": 4}, "found experts 4"),
        (GOOD | {"experts": [1, -5]}, "found expert -5"),
        (GOOD | {"experts": [1, 1]}, "found expert 1 twice"),
        (GOOD | {"experts": [1, 8]}, "found expert 8; expected 0 to 7"),
        (GOOD | {"experts": [1, 2.0]}, "found expert 2.0"),
        (GOOD | {"turn": 0.5}, "found turn 0.5"),
        (GOOD | {"phase": "chat"}, "found phase 'chat'"),
        (GOOD | {"phase": []}, r"found phase \[\]"),
        (GOOD | {"phase": "decode"}, "found phases in 1 of 2 lines"),
        (GOOD | {"weights": [1, 2]}, "found weights in 1 of 2 lines"),
        ({"layers": [[1], [2]], "weights": [[1], None]}, "found 0 weights for 1 experts"),
        (GOOD | {"weights": [1]}, "found 1 weights for 2 experts"),
        (GOOD | {"weights": [1, float("nan")]}, "found weight nan"),
        (GOOD | {"weights": [1, 10**400]}, "found weight 1000"),
        ({"layers": [[1]], "weights": []}, "found 0 lists of weights for 1 layers"),
        ({"layers": {"3": [1]}}, "found layers {'3'"),
        ({"model": "again"}, "found neither experts nor layers"),
        ([1, 2], "found a JSON list"),
    ],
)  # fmt: skip
def test_malformed_json_lines(tmp_path: Path, entry: Any, message: str) -> None:
    """Each value is checked; the line is named."""
    lines = [{"n_experts": 8, "model": "m"}, entry, GOOD | {"token": 1}]
    if isinstance(entry, dict) and "model" in entry:
        lines = [GOOD, entry]
    with pytest.raises(TraceFormatError, match=message):
        read(tmp_path, "\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize(
    "header",
    [
        {}, {"models": "m"}, {"model": 3}, {"n_experts": 0}, {"n_experts": 2**40}, {"unit_bytes": 5},
        {"unit_bytes": {"layers.0": 0}}, {"unit_bytes": {"layers.0": 2**60}}, {"unit_bytes": {"0": 7}},
        {"unit_bytes": {"layers.0": True}},
    ],
)  # fmt: skip
def test_malformed_first_lines(tmp_path: Path, header: dict[str, Any]) -> None:
    """What the first line says of the model is checked as well."""
    with pytest.raises(TraceFormatError):
        read(tmp_path, "\n".join(map(json.dumps, [header, GOOD])))


def test_json_cut_off(tmp_path: Path) -> None:
    """Half a line, and lines without a single expert."""
    with pytest.raises(TraceFormatError, match=r"line 22: found .*expected an object such as"):
        read(tmp_path, json_lines()[:-9])
    with pytest.raises(TraceFormatError, match="found no routing"):
        read(tmp_path, '{"layers": [[], []]}')


# Sources.


def test_what_is_no_route(tmp_path: Path) -> None:
    """Other text under the name of routes; options that do not fit; a path that leads nowhere."""
    with pytest.raises(TraceFormatError, match="found no routes; expected a route trace"):
        read(tmp_path, "a,b\n1,2\n", "x.csv")
    with pytest.raises(TraceFormatError, match="found an empty file"):
        read(tmp_path, "", "y.csv")
    with pytest.raises(UsageError, match="a file ending in ''"):
        read(tmp_path, "a text", "z")
    with pytest.raises(UsageError, match="used=2 for a route trace, which says itself"):
        read(tmp_path, route_trace(), options=",used=2")
    with pytest.raises(UsageError, match="found experts=7; expected 6"):
        read(tmp_path, route_trace(), options=",experts=7")
    with pytest.raises(UsageError, match="found experts=5000; expected 1 to 4096"):
        read(tmp_path, moe_trace(), options=",experts=5000")
    with pytest.raises(UsageError, match="found nothing there"):
        read_source(Path(f"routes:{tmp_path}/nothing"))
    with pytest.raises(UsageError, match="expected a value for one of used, experts"):
        AdapterSource.parse("routes:a,use=3")
    assert form_of_routes(tmp_path / "z") is None


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 3), st.integers(0, 8)), min_size=1, max_size=40,
        unique=True,
    )
)  # fmt: skip
def test_any_table(table: list[tuple[int, int, int, int]]) -> None:
    """Rows in any order give the same trace: rows of bits by layer, token by turn and number."""
    columns = np.array(table, np.int64).T
    weights = np.arange(len(table)) / 64
    trace = trace_of_routings("x", Routings(*columns, weights), None, {})
    tokens = sorted({(turn, token) for turn, token, _, _ in table})
    expected: dict[tuple[int, int], set[int]] = {}
    for turn, token, layer, expert in table:
        expected.setdefault((tokens.index((turn, token)), layer), set()).add(expert)
    assert routes_in(trace) == {(*key, tuple(sorted(experts))) for key, experts in expected.items()}
    starts = [place for place, (turn, _) in enumerate(tokens) if place == 0 or tokens[place - 1][0] != turn]
    assert trace.segment_starts.tolist() == starts
    total = sum(float(np.sum(block.magnitudes.values[:])) for block in trace.blocks.values() if block.magnitudes)
    assert total == weights.sum()


# Counts.


def test_a_coactivation_table(tmp_path: Path) -> None:
    """Counts and the pairs that it lists, as a profile of experts without a trace."""
    write_routes(tmp_path)
    report = profile(tmp_path / "mbolt.json", tmp_path / "p")
    assert (report.n_tokens, report.verdict) == (10, None)
    assert "caches" in report.warnings[0]
    held = read_profile(tmp_path / "p")
    assert (held.unit, held.trace, held.counted_as["model"]) == ("expert", None, "tiny")
    assert held.blocks["layers.0"].frequency.tolist() == [9, 5, 7, 0]
    graph = np.zeros((4, 4), int)
    graph[0, 2] = graph[2, 0] = 6
    graph[0, 1] = graph[1, 0] = 4
    np.testing.assert_array_equal(held.blocks["layers.0"].graph.toarray(), graph)
    assert held.blocks["layers.2"].graph.nnz == 0
    profile(f"mbolt:{tmp_path}/mbolt.json", tmp_path / "one", ProfileParams(n_neighbors=1))
    # Expert 1 keeps its one companion, so the pair stays.
    assert read_profile(tmp_path / "one").blocks["layers.0"].graph.nnz == 4
    with pytest.raises(TraceFormatError, match="counts and no bits"):
        read_source(tmp_path / "mbolt.json")
    with pytest.raises(UsageError, match="expected no options"):
        counts_source("mbolt:a,tokens=3")


def test_the_neighbours_that_are_kept(tmp_path: Path) -> None:
    """Of the pairs of an expert, the most frequent; of equal counts, with the lower expert."""
    table: dict[str, Any] = {
        "layers": [{"layer": 0, "heat": [9] * 5, "pairs": [[0, 1, 3], [0, 2, 3], [0, 3, 5], [3, 4, 2], [2, 1, 8]]}]
    }
    (tmp_path / "t.json").write_text(json.dumps(table))
    profile(tmp_path / "t.json", tmp_path / "p", ProfileParams(n_neighbors=1))
    graph = read_profile(tmp_path / "p").blocks["layers.0"].graph.toarray()
    # 0 keeps 3, 1 keeps 2, 2 keeps 1, 3 keeps 0, 4 keeps 3.
    assert {(int(i), int(j)) for i, j in np.argwhere(np.triu(graph))} == {(0, 3), (1, 2), (3, 4)}


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (("layers",), {}, "layers {}"), (("layers",), [], "no layers"), (("layers", 0), 3, "layer 0: 3"),
        (("layers", 0, "layer"), -1, "layer -1"), (("layers", 0, "layer"), 2, "layers.2 twice"),
        (("layers", 0, "heat", 0), -1, "layers.0: heat -1"), (("layers", 0, "heat", 0), 11, "layers.0: heat 11"),
        (("layers", 0, "heat", 0), 1.5, "heat 1.5"), (("layers", 0, "heat"), [], "counts of 0 experts"),
        (("layers", 0, "heat"), [9, 5, 7], "counts of 3 experts"),
        (("layers", 0, "pairs", 0), [0, 2], r"pair \[0, 2\]"),
        (("layers", 0, "pairs", 0), [0, 4, 1, 2], "pair 4"), (("layers", 0, "pairs", 0), [0, 0, 1, 2], "of one expert"),
        (("layers", 0, "pairs", 0), [0, 1, 4, 2], "twice"), (("layers", 0, "pairs", 0, 2), 8, "more often than"),
        (("layers", 0, "pairs", 0, 2), 0, "more often than"), (("layers", 0, "pairs"), None, "pairs None"),
        (("n_decode_tokens",), 0, "heat 9"), (("n_decode_tokens",), "many", "n_decode_tokens 'many'"),
        (("model",), 3, "model 3"),
    ],
)  # fmt: skip
def test_malformed_tables(tmp_path: Path, path: tuple[Any, ...], value: Any, found: str) -> None:
    """Every number is checked against the others."""
    document: Any = coactivation()
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(TraceFormatError, match=f"t.json: found .*{found}"):
        read_counts(counts_source(tmp_path / "t.json"))


@pytest.mark.skipif(not DATA.is_dir(), reason="RIPPLE_PLACE_DATA names no data")
@pytest.mark.parametrize(("model", "n_experts"), [("qwen3-30b-a3b", 128), ("qwen3-next-80b-a3b", 512)])
def test_real_tables(model: str, n_experts: int) -> None:
    """Every pair that the table lists is there."""
    path = DATA / "expert-routes" / "mbolt" / f"coactivation_{model}.json"
    counts = read_counts(counts_source(path))
    assert {block.size for block in counts.blocks.values()} == {n_experts}
    listed = sum(len(layer["pairs"]) for layer in json.loads(path.read_text())["layers"])
    assert sum(pairs.counts.size for pairs in counts.pairs.values()) == listed
