"""The workflows and the command line: options that contradict each other, and what the system refuses."""

from __future__ import annotations

import errno
import os
import resource
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

from ripple_place.capture.params import CaptureParams
from ripple_place.checkpoint import restore as restore_module
from ripple_place.checkpoint import rewrite
from ripple_place.verdict.judge import VerdictParams
from ripple_place.workflows import profile as profile_module
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.verify import verify
from tests.failing_call import FailingCall, next_descriptor
from tests.remedies.bench import counts_at, model_at, output_at, placement_at, profile_at, trace_at
from tests.remedies.cases import case, instead, run

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.remedies.cases import Attempts

# Profile.

_PARAMS = "workflows/profile_params.py:ProfileParams.__post_init__"
instead(
    _PARAMS, "both; one", "--append and --force: one of them", lambda: ProfileParams(append=True, force=True),
    lambda: ProfileParams(append=True), lambda: ProfileParams(force=True),
)  # fmt: skip
instead(
    _PARAMS, "leave --no-verdict out", "a page without the verdict: with it, or no page",
    lambda: ProfileParams(html="a", verdict=None), lambda: ProfileParams(html="a"), lambda: ProfileParams(verdict=None),
)  # fmt: skip
instead(
    _PARAMS, "ask for a number in this range", "no neighbours: 64", lambda: ProfileParams(n_neighbors=0),
    lambda: ProfileParams(n_neighbors=64),
)  # fmt: skip
instead(
    _PARAMS, "give the sequences", "a union of no sequence: of 4", lambda: ProfileParams(union=0),
    lambda: ProfileParams(union=4),
)  # fmt: skip
instead(
    "verdict/judge.py:VerdictParams.__post_init__", "", "what reads cost, said twice: once",
    lambda: VerdictParams(bundle_bytes=4096, break_even_gap=5.0), lambda: VerdictParams(bundle_bytes=4096),
    lambda: VerdictParams(break_even_gap=5.0),
)  # fmt: skip


def profiled(*arguments: object) -> None:
    """Profile without the verdict, which takes longest."""
    run("profile", *arguments, "--no-verdict")


@case("workflows/profile.py:profile", "name at least one")
def nothing_to_profile(folder: Path) -> Attempts:
    """No source: a trace."""
    trace, params = trace_at(folder / "trace"), ProfileParams(verdict=None)
    yield lambda: profile([], folder / "out", params)
    yield lambda: profile([trace], folder / "out", params)


@case("outputs.py:check_output_file", "remove it")
def page_is_there_while_appending(folder: Path) -> Attempts:
    """A page that exists, beside --append, which excludes --force: another name, or it is removed."""
    first, out = trace_at(folder / "a"), folder / "profile"
    second, third = trace_at(folder / "b", n_rows=40), trace_at(folder / "c", n_rows=30)
    profiled(first, "--out", out)
    (folder / "old.html").touch()
    page = lambda name, trace: run("profile", trace, "--out", out, "--append", "--html", folder / name)  # noqa: E731
    yield lambda: page("old.html", second)
    yield lambda: page("new.html", second)
    (folder / "old.html").unlink()
    yield lambda: page("old.html", third)


@case("workflows/profile.py:_profile_counts")
def counts_with_a_trace(folder: Path) -> Attempts:
    """Counts and a trace in one profile: the counts alone."""
    counts_at(folder / "counts")
    counts = f"powerinfer:{folder / 'counts.counts'}"
    yield lambda: profiled(counts, trace_at(folder / "trace"), "--out", folder / "out")
    yield lambda: profiled(counts, "--out", folder / "out")


@case("workflows/profile_sources.py:gather_sources")
def text_without_a_model(folder: Path) -> Attempts:
    """A text, and a trace instead of a model: without the text."""
    trace = trace_at(folder / "trace")
    (folder / "text").write_text("A text.")
    params = partial(ProfileParams, verdict=None)
    yield lambda: profile(trace, folder / "out", params(capture=CaptureParams(folder / "text")))
    yield lambda: profile(trace, folder / "out", params())


@case("workflows/profile_sources.py:_is_written")
def trace_added_twice(folder: Path) -> Attempts:
    """A trace that the profile has already: left out, and judged from the profile."""
    old, new, out = trace_at(folder / "a"), trace_at(folder / "b", n_rows=40), folder / "profile"
    profiled(old, "--out", out)
    yield lambda: profiled(old, new, "--out", out, "--append")
    yield lambda: profiled(new, "--out", out, "--append")
    yield lambda: run("profile", out, "--out", folder / "again")


@case("cli/capture_options.py:_refuse_given")
def recording_options_of_a_trace(folder: Path) -> Attempts:
    """An option of recording for what was recorded before: left out."""
    trace = trace_at(folder / "trace")
    yield lambda: profiled(trace, "--out", folder / "out", "--max-tokens", 9)
    yield lambda: profiled(trace, "--out", folder / "out")


# Reorder.

_SOURCE, _TOGETHER = "cli/reorder.py:_check_source_of_order", "workflows/reorder.py:_check_together"


def reordered_otherwise(where: str, words: str, story: str, bad: str, *good: str) -> None:
    """List a case of arguments of reorder that are refused, and of those to give instead.

    ``M`` is a model, ``P`` its profile, ``Q`` a placement of it.
    """

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        model_at(folder / "M")
        profile_at(folder / "P")
        placement_at(folder / "Q")
        for number, options in enumerate((bad, *good)):
            yield partial(run, "reorder", *options.split(), "--effort", 0, "--out", f"out{number}")


reordered_otherwise(
    _SOURCE, "give --profile", "nothing to order by: a profile, or a placement", "M", "M --profile P", "M --placement Q"
)
reordered_otherwise(
    _SOURCE, "leave one out", "a profile and a placement: one of them", "M --profile P --placement Q", "M --profile P",
    "M --placement Q",
)  # fmt: skip
reordered_otherwise(
    _SOURCE, "the placement is the order", "a placement and an ordering: the placement alone",
    "M --placement Q --ordering greedy", "M --placement Q",
)  # fmt: skip
reordered_otherwise(
    _SOURCE, "name the checkpoint", "a placement and nothing to apply it to: a checkpoint", "--placement Q",
    "M --placement Q",
)  # fmt: skip
reordered_otherwise(
    _TOGETHER, "add --format bundled", "two copies in the drop-in format: in the bundled one, or one copy",
    "M --profile P --format drop-in --copies 2", "M --profile P --format bundled --copies 2",
    "M --profile P --format drop-in",
)  # fmt: skip
reordered_otherwise(
    _TOGETHER, "run `ripple-place profile` first", "a profile that is not there: the right path", "M --profile R",
    "M --profile P",
)  # fmt: skip
reordered_otherwise(
    "workflows/reorder.py:apply_placement", "", "a placement that is not there: the right path", "M --placement R",
    "M --placement Q",
)  # fmt: skip
reordered_otherwise(
    _TOGETHER, "leave --bundle-bytes out", "the size of neurons that the checkpoint knows: without",
    "M --profile P --bundle-bytes 4KiB", "M --profile P",
)  # fmt: skip


@case(_TOGETHER, "move the profile")
def profile_in_the_output(folder: Path) -> Attempts:
    """The profile lies in the output that is replaced: it is moved."""
    out = output_at(folder / "out")
    learned = profile_at(out / "profile")
    (out / "profile.trace").unlink()
    yield lambda: run("reorder", folder / "model", "--profile", learned, "--out", out, "--force")
    learned.rename(folder / "profile")
    yield lambda: run("reorder", folder / "model", "--profile", folder / "profile", "--out", out, "--force")


@case("workflows/reorder.py:_write")
def interrupted_while_writing(folder: Path) -> Attempts:
    """Ctrl-C while files are written: the same command with --resume."""
    model, learned = model_at(folder / "model"), profile_at(folder / "profile")
    command = ("reorder", model, "--profile", learned, "--out", folder / "out")
    with patch.object(rewrite, "build_manifest", FailingCall(rewrite.build_manifest, 1, KeyboardInterrupt())):
        yield lambda: run(*command)
    yield lambda: run(*command, "--resume")


# Verify and simulate.

_VERIFY = "cli/verify.py:_checkpoint_and_out"


@case(_VERIFY)
def output_alone(folder: Path) -> Attempts:
    """An output to be proved without its original: with it, or restored."""
    out = output_at(folder / "out")
    yield lambda: run("verify", out)
    yield lambda: run("verify", folder / "model", out)
    yield lambda: run("verify", out, "--restore", folder / "restored")


@case("workflows/verify.py:verify")
def nothing_to_verify(folder: Path) -> Attempts:
    """No checkpoint to compare with, from Python: with it, or only restored."""
    out = output_at(folder / "out")
    yield lambda: verify(None, out)
    yield lambda: verify(folder / "model", out)
    yield lambda: verify(None, out, restore_to=folder / "restored")


@case("workflows/profile.py:profile", "is in place")
def interrupted_verdict(folder: Path) -> Attempts:
    """Ctrl-C while the verdict is computed, the profile being in place: the same command with --append."""
    command = ("profile", trace_at(folder / "trace"), "--out", folder / "out")
    with patch.object(profile_module, "judge", FailingCall(None, 1, KeyboardInterrupt())):
        yield lambda: run(*command)
    yield lambda: run(*command, "--append")


@case("workflows/verify.py:_restore")
def interrupted_restore(folder: Path) -> Attempts:
    """Ctrl-C while files are restored: the same command again, or what stays is removed."""
    out, target = output_at(folder / "out"), folder / "restored"
    with patch.object(restore_module, "write_shard", FailingCall(None, 1, KeyboardInterrupt())):
        yield lambda: run("verify", out, "--restore", target)
    assert target.with_name("restored.partial").exists()
    yield lambda: run("verify", out, "--restore", target)
    assert not target.with_name("restored.partial").exists()


@case("cli/reading.py:reading_params")
def overlap_with_nothing(folder: Path) -> Attempts:
    """Reading that overlaps with no computing: the time to compute is added."""
    options = (trace_at(folder / "trace"), "--layout", "original", "--bundle-bytes", "4KiB", "--overlap", "layer")
    yield lambda: run("simulate", *options)
    yield lambda: run("simulate", *options, "--compute-us-per-layer", "800us")


# What the system refuses.

_SYSTEM = "cli/main.py:_os_error_text"


def refused_by_the_system(code: int, words: str, story: str, *, untried: str = "") -> None:
    """List a case of a write that fails with some error: elsewhere it does not, and later it does not there either."""

    @case(_SYSTEM, words, story, untried=untried)
    def scene(folder: Path) -> Attempts:
        trace, bad, sync = trace_at(folder / "trace"), folder / "bad", os.fsync
        bad.mkdir()

        def fail_there(descriptor: int) -> None:
            # A file without a name lies in its directory all the same.
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"{bad}/"):
                raise OSError(code, os.strerror(code))
            sync(descriptor)

        with patch.object(os, "fsync", fail_there):
            yield lambda: profiled(trace, "--out", bad / "out")
            yield lambda: profiled(trace, "--out", folder / "out")
        yield lambda: profiled(trace, "--out", bad / "out")


refused_by_the_system(errno.ENOSPC, "Make room, or", "a full disk: elsewhere, or with room")
refused_by_the_system(errno.EDQUOT, "within the quota", "a used-up quota: elsewhere, or with room")
refused_by_the_system(errno.EROFS, "read-only", "a read-only file system: elsewhere")
refused_by_the_system(errno.EIO, "the system log", "storage that fails", untried="no test can repair storage")


@case(_SYSTEM, "limit on open files")
def limit_on_open_files(folder: Path) -> Attempts:
    """A table of open files that is full: the limit is raised, or files are closed."""
    trace, (soft, hard) = trace_at(folder / "trace"), resource.getrlimit(resource.RLIMIT_NOFILE)
    profiled(trace, "--out", folder / "before")  # Whatever is imported has been, and opens nothing.

    def limited(n_files: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, hard))
        try:
            profiled(trace, "--out", folder / "out")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    yield lambda: limited(next_descriptor())
    yield lambda: limited(soft)


@case(_SYSTEM, "limit on file sizes")
def limit_on_file_sizes(folder: Path) -> Attempts:
    """A limit on the sizes of files: it is raised."""
    trace, (soft, hard) = trace_at(folder / "trace"), resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(n_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            profiled(trace, "--out", folder / "out")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield lambda: limited(100)
    yield lambda: limited(1 << 20)


@case(_SYSTEM, "Check the permissions")
def directory_is_closed(folder: Path) -> Attempts:
    """A trace that may not be read: its permissions are changed."""
    trace, open_ = trace_at(folder / "trace"), os.open

    def open_others(path: str | Path, *arguments: Any, **options: Any) -> int:
        if path == trace:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_(path, *arguments, **options)

    with patch.object(os, "open", open_others):
        yield lambda: profiled(trace, "--out", folder / "out")
    yield lambda: profiled(trace, "--out", folder / "out")


@case(_SYSTEM, "Check the path and the storage")
def name_that_no_file_can_have(folder: Path) -> Attempts:
    """A trace by a name that is too long for any: the right path."""
    yield lambda: profiled(folder / ("x" * 300), "--out", folder / "out")
    yield lambda: profiled(trace_at(folder / "trace"), "--out", folder / "out")
