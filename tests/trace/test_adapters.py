"""Other tools' formats: each read into the bits that its numbers mean, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ripple_place.errors import RipplePlaceError, TraceFormatError, UsageError
from ripple_place.trace import raw_numbers
from ripple_place.trace.sources import read_source, read_sources
from tests.trace_builders import random_activity, unpack


def numbers(n_rows: int, n_neurons: int, dtype: type = np.float32) -> np.ndarray:
    """Return what ReLU neurons put out: many zeros."""
    return np.maximum(np.random.default_rng(0).standard_normal((n_rows, n_neurons)) - 0.5, 0).astype(dtype)


def write_dejavu(folder: Path, layers: dict[int, np.ndarray], n_rows: int) -> None:
    """Write memory maps with room for `n_rows` tokens, as DejaVu does."""
    for layer, values in layers.items():
        array = np.memmap(folder / f"mlp_label_{layer}.mmap", np.float16, "w+", shape=(n_rows, values.shape[1]))
        array[: len(values)] = values
        array.flush()
        (folder / f"mlp_sp_x_{layer}.mmap").write_bytes(bytes(2 * n_rows * 4))


@pytest.mark.parametrize("chunk_bytes", [1, 100, 10**6])
def test_dejavu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    """Layers by number, not by name; room that was never filled is no text."""
    monkeypatch.setattr(raw_numbers, "CHUNK_BYTES", chunk_bytes)
    layers = {layer: numbers(9, 13, np.float16) + np.float16(layer == 10) for layer in (2, 10)}
    write_dejavu(tmp_path, layers, 40)
    trace = read_source(Path(f"dejavu:{tmp_path},neurons=13"))
    assert list(trace.blocks) == ["layers.2", "layers.10"]
    assert trace.n_tokens == 9
    for layer, values in layers.items():
        np.testing.assert_array_equal(unpack(trace.blocks[f"layers.{layer}"]), values != 0)
    trace = read_source(Path(f"dejavu:{tmp_path},neurons=13,tokens=12,active=threshold=0.5"))
    assert (trace.n_tokens, trace.metadata["activity"]) == (12, "threshold=0.5")
    np.testing.assert_array_equal(unpack(trace.blocks["layers.2"])[:9], np.abs(layers[2]) > 0.5)


def write_raw(folder: Path, layer: int, values: np.ndarray) -> None:
    """Write the numbers of a layer as they are, whatever their type."""
    (folder / f"mlp_label_{layer}.mmap").write_bytes(values.tobytes())


@pytest.mark.parametrize("n_unused", [0, 30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wider_numbers_are_no_float16(tmp_path: Path, dtype: str, n_unused: int) -> None:
    """Read as float16 they passed with twice, or four times, the tokens, and about twice the active neurons."""
    values = numbers(50, 16).astype(dtype)
    write_raw(tmp_path, 3, np.concatenate([values, np.zeros((n_unused, 16), dtype)]))
    source = f"dejavu:{tmp_path},neurons=16"
    match = rf"mlp_label_3.mmap: found bytes that look like {dtype}.*; expected float16 rows of 16 .* Add dtype={dtype}"
    for tokens in ("", ",tokens=50"):
        with pytest.raises(TraceFormatError, match=match):
            read_source(Path(source + tokens))
    trace = read_source(Path(f"{source},dtype={dtype}"))
    assert trace.n_tokens == 50
    np.testing.assert_array_equal(unpack(trace.blocks["layers.3"]), values != 0)


def test_who_says_float16_is_believed(tmp_path: Path) -> None:
    """A file may look like float32 by accident: here every other neuron is dead."""
    values = numbers(50, 16, np.float16)
    values[:, ::2] = 0
    values[values > 0] = 1
    write_raw(tmp_path, 0, values)
    source = f"dejavu:{tmp_path},neurons=16"
    with pytest.raises(TraceFormatError, match="or dtype=float16 if that is what they are after all"):
        read_source(Path(source))
    np.testing.assert_array_equal(unpack(read_source(Path(f"{source},dtype=float16")).blocks["layers.0"]), values != 0)


def test_float16_is_no_wider_type(tmp_path: Path) -> None:
    """The other way round it would be half the tokens, and numbers that no neuron puts out."""
    write_raw(tmp_path, 0, numbers(50, 16, np.float16))
    match = r"found float32 numbers nearer to zero than 1e-38.* Correct dtype, or leave it out for float16"
    with pytest.raises(TraceFormatError, match=match):
        read_source(Path(f"dejavu:{tmp_path},neurons=16,dtype=float32"))


def test_inputs_beside_the_outputs(tmp_path: Path) -> None:
    """Both have a row for each token; the number of neurons that makes it 11 rows cannot be true."""
    write_raw(tmp_path, 0, numbers(33, 16, np.float16))
    (tmp_path / "mlp_sp_x_0.mmap").write_bytes(bytes(2 * 33 * 4))
    assert read_source(Path(f"dejavu:{tmp_path},neurons=16")).n_tokens == 33
    match = r"found 22 rows, and 330 bytes of mlp_sp_x_0.mmap beside it; expected a whole number of float16 inputs"
    (tmp_path / "mlp_sp_x_0.mmap").write_bytes(bytes(2 * 33 * 5))
    with pytest.raises(TraceFormatError, match=match):
        read_source(Path(f"dejavu:{tmp_path},neurons=24"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, bool])
@pytest.mark.parametrize("rule", ["relu", "threshold=0.25", "top-k=3"])
def test_dense_numbers(tmp_path: Path, dtype: type, rule: str) -> None:
    """An array of numbers becomes bits by a rule; the lowest integer has an absolute value too."""
    values = (np.random.default_rng(0).standard_normal((7, 13)) * 2).astype(dtype)
    if dtype == np.int8:
        values[0, 0] = -128
    np.save(tmp_path / "layers.0.npy", values)
    np.savez(tmp_path / "all.npz", **{"layers.0": values, "layers.1": values[:, ::-1]})
    size = np.abs(values.astype(float))
    expected = {
        "relu": size > 0,
        "threshold=0.25": size > 0.25,
        "top-k=3": (size >= np.sort(size, axis=1)[:, [-3]]) & (size > 0),
    }[rule]
    one = read_source(Path(f"dense:{tmp_path}/layers.0.npy,active={rule}"))
    both = read_source(Path(f"dense:{tmp_path}/all.npz,active={rule}"))
    np.testing.assert_array_equal(unpack(one.blocks["layers.0"]), expected)
    np.testing.assert_array_equal(unpack(both.blocks["layers.1"]), expected[:, ::-1])
    assert one.metadata["activity"] == rule


@pytest.mark.parametrize("chunk_bytes", [1, 10**6])
@pytest.mark.parametrize("rule", ["relu", "threshold=0.25", "top-k=3"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_neither_active_nor_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float, rule: str, chunk_bytes: int
) -> None:
    """NaN is not zero, so `relu` took it for active; under top-k it silenced its token. Token and neuron are named."""
    monkeypatch.setattr(raw_numbers, "CHUNK_BYTES", chunk_bytes)
    values = numbers(9, 13, np.float16)
    values[4, 11] = values[7, 2] = bad
    np.save(tmp_path / "layers.3.npy", values)
    write_dejavu(tmp_path, {5: values}, 9)
    for source, block in (
        (f"dense:{tmp_path}/layers.3.npy", "layers.3"),
        (f"dejavu:{tmp_path},neurons=13", "layers.5"),
    ):
        with pytest.raises(
            TraceFormatError, match=rf"{block}, token 4, neuron 11: found {bad}; expected finite outputs"
        ):
            read_source(Path(f"{source},active={rule}"))


@pytest.mark.parametrize("order", ["little", "big"])
def test_packed_bits(tmp_path: Path, order: str) -> None:
    """numpy.packbits packs in big order unless told otherwise; the number of neurons need be no multiple of 8."""
    active = random_activity(np.random.default_rng(0), 7, 13, 0.5)
    np.save(tmp_path / "layers.0.npy", np.packbits(active, axis=1, bitorder=order))
    trace = read_source(Path(f"packed:{tmp_path}/layers.0.npy,order={order},neurons=13"))
    np.testing.assert_array_equal(unpack(trace.blocks["layers.0"]), active)
    assert trace.blocks["layers.0"].n_neurons == 13


def test_the_wrong_order_shows(tmp_path: Path) -> None:
    """Bits past the last neuron betray most confusions of the order."""
    np.save(tmp_path / "layers.0.npy", np.packbits(np.ones((3, 13), bool), axis=1, bitorder="big"))
    with pytest.raises(TraceFormatError, match="found bits set past neuron 12; expected zeros there"):
        read_source(Path(f"packed:{tmp_path}/layers.0.npy,neurons=13"))


def test_joined_with_others(tmp_path: Path) -> None:
    """A source like any other."""
    np.save(tmp_path / "layers.0.npy", numbers(5, 8))
    np.savez(tmp_path / "b.npz", **{"layers.0": numbers(6, 8) != 0})
    assert read_sources([Path(f"dense:{tmp_path}/layers.0.npy"), tmp_path / "b.npz"]).n_tokens == 11


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        ("dense:none.npy", UsageError, "dense:none.npy: found nothing there"),
        ("dense:layers.0.npy,order=big", UsageError, "found 'order=big'; expected a value for one of active"),
        ("dense:layers.0.npy,active=relu,active=relu", UsageError, "each at most once"),
        ("dense:layers.0.npy,active=cats=50%", UsageError, "found active=cats=50%"),
        ("dense:words.npy", UsageError, "found the name words.npy; expected a name that says the block"),
        ("dense:layers.2.npy", TraceFormatError, "expected numbers"),
        ("dense:layers.3.npy", TraceFormatError, r"found float32 \[5\]; expected numbers \[n_tokens, n_neurons\]"),
        ("dense:text.txt", UsageError, "ending in '.txt'; expected .npy or .npz"),
        ("packed:layers.0.npy", TraceFormatError, r"found float32 \[5, 8\]; expected uint8"),
        ("packed:layers.1.npy,order=middle", UsageError, "found order=middle"),
        ("packed:layers.1.npy,neurons=0", UsageError, "found neurons=0; expected a number from 1 on"),
        ("packed:layers.1.npy,neurons=17", UsageError, "found neurons=17; expected 9 to 16 for rows of 2 bytes"),
        ("dejavu:.", UsageError, "found no mlp_label_0.mmap"),
        ("dejavu:d", UsageError, "found no number of neurons"),
        ("dejavu:d,neurons=7", TraceFormatError, "mlp_label_0.mmap: found 160 bytes; expected float16 rows of 7"),
        ("dejavu:d,neurons=8,tokens=11", TraceFormatError, "found 11 tokens; expected 1 to 10"),
        (
            "dejavu:d,neurons=8,dtype=bfloat16",
            UsageError,
            "found dtype=bfloat16; expected one of float16, float32, flo",
        ),
        ("packed:layers.4.npy", TraceFormatError, "found uint8 with no value above 1, and no number of neurons"),
        ("dejavu:zeros,neurons=8", TraceFormatError, "found 0 tokens"),
        ("powerinfer:d", TraceFormatError, "found counts and no bits"),
    ],
)
def test_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, error: type[RipplePlaceError], match: str
) -> None:
    """Every mistake is named."""
    monkeypatch.chdir(tmp_path)
    np.save("layers.0.npy", numbers(5, 8))
    np.save("words.npy", numbers(5, 8))
    np.save("layers.1.npy", np.full((3, 2), 255, np.uint8))
    np.save("layers.2.npy", np.full((3, 2), "word"))
    np.save("layers.3.npy", numbers(5, 8)[:, 0])
    np.save("layers.4.npy", np.eye(3, dtype=np.uint8))
    Path("text.txt").write_text("words")
    for folder, values in (("d", numbers(5, 8)), ("zeros", np.zeros((5, 8)))):
        Path(folder).mkdir()
        write_dejavu(Path(folder), {0: values}, 10)
    with pytest.raises(error, match=match):
        read_source(Path(source))
