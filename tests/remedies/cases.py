"""What a case of a remedy is, the list of all, and how one is walked.

A case reaches a site, does what the remedy says, and shows that this helped::

    @case("outputs.py:check_output_file", "overwrite it with --force")
    def file_is_there(folder):  # And a docstring: the case, a colon, and what is done.
        (folder / "out").write_text("")
        yield lambda: profile(TRACE, folder / "out")  # must be refused, by the site that is named
        yield lambda: profile(TRACE, folder / "other")  # must succeed: the first way that the remedy offers
        yield lambda: profile(TRACE, folder / "out", force=True)  # and so must the second

An only attempt is called again when the scene ends: the scene did what the remedy says in between. Where
nothing has to be prepared, `instead` is shorter.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import click

from ripple_place.cli.main import _os_error_text, cli
from ripple_place.errors import RipplePlaceError
from tests.remedies.sites import PACKAGE, Site, find_sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Attempt = Callable[[], object]
    Attempts = Iterator[Attempt]
    Scene = Callable[[Path], Attempts]


@dataclass(frozen=True)
class Case:
    """A case that reaches a site.

    Parameters
    ----------
    where, words : str
        The site: module and function; and, where that function has several, words of only one of them.
    story : str
        The case, a colon, and what is done.
    scene : callable
        Generator of attempts.
    untried : str
        Why the remedy cannot be done in a test; empty where the case does it.
    needs_torch : bool
    """

    where: str
    words: str
    story: str
    scene: Scene
    untried: str = ""
    needs_torch: bool = False

    @property
    def site(self) -> Site:
        """The site that this case is about."""
        found = [
            site for site in find_sites() if site.where == self.where and self.words in f"{site.said}. {site.remedy}."
        ]
        assert len(found) == 1, f"{self.story!r} names {len(found)} sites: {self.where}, {self.words!r}"
        return found[0]


_CASES: list[Case] = []


def case(
    where: str, words: str = "", story: str = "", *, untried: str = "", needs_torch: bool = False
) -> Callable[[Scene], Scene]:
    """Return a decorator that lists a scene, whose docstring is its story if none is given; see `Case`."""

    def enlist(scene: Scene) -> Scene:
        told = story or " ".join((scene.__doc__ or "").split()).removesuffix(".")
        _CASES.append(Case(where, words, told, scene, untried, needs_torch))
        return scene

    return enlist


def instead(
    where: str, words: str, story: str, refused: Attempt, *ways: Attempt, untried: str = "", needs_torch: bool = False
) -> None:
    """List a case for which nothing has to be prepared: an attempt that is refused, and those to make instead."""
    _CASES.append(Case(where, words, story, lambda _: iter((refused, *ways)), untried, needs_torch))


@cache
def all_cases() -> tuple[Case, ...]:
    """Return the cases of all modules in tests/remedies/scenes."""
    for path in sorted((Path(__file__).parent / "scenes").glob("*.py")):
        import_module(f"tests.remedies.scenes.{path.stem}")
    return tuple(_CASES)


def run(*arguments: object) -> None:
    """Run the command line in this process; errors are raised."""
    cli.main([str(argument) for argument in arguments], "ripple-place", standalone_mode=False)


def walk(case: Case, folder: Path) -> None:
    """Assert that the case reaches its site, and that doing the remedy helps."""
    # Whatever happens, what the scene has patched is put right again.
    with ExitStack() as stack:
        attempts = case.scene(folder)
        stack.callback(getattr(attempts, "close", lambda: None))
        first = next(attempts)
        reached, said = _refusal(first)
        assert case.site in reached, f"{case.story!r} reached {[site.where for site in reached]}: {said}"
        if case.untried:
            return
        # Each way is tried before the scene goes on, which may undo what it did for this one.
        ways = 0
        for way in attempts:
            way()
            ways += 1
        if not ways:
            first()


def _refusal(attempt: Attempt) -> tuple[list[Site], str]:
    """Make an attempt that must be refused; return the sites whose remedy the message gives, and the message."""
    with _remembering_where_errors_are_made() as made:
        try:
            attempt()
        except (RipplePlaceError, OSError, click.ClickException, click.Abort) as error:
            remedies = _remedies_in(error)
            lines = {line for cause in _causes(error) for line in (*_lines_of_traceback(cause), *made[id(cause)])}
            reached = [site for site in find_sites() if any(site.gives(remedy) for remedy in remedies)]
            return [site for site in reached if _ran(site, lines, error)], str(error)
    raise AssertionError("the attempt was not refused")


def _remedies_in(error: BaseException) -> list[str]:
    if isinstance(error, RipplePlaceError):
        return [error.remedy]
    if isinstance(error, OSError):
        text = _os_error_text(error)
        return [str(error.strerror), text.rpartition(". ")[2].removesuffix(".")]
    if isinstance(error, click.ClickException):
        return [error.message]
    return list(getattr(error.__cause__, "__notes__", []))


def _ran(site: Site, lines: set[tuple[str, int]], error: BaseException) -> bool:
    """Tell whether the site's lines were among those that ran when the error was made."""
    if isinstance(error, OSError) and site.module == "cli/main.py":
        return True  # Not raised there, but put into words.
    if isinstance(error, click.Abort):
        return site.module in {module for module, _ in lines}  # A note, which is left before the error goes on.
    return any(site.module == module and site.first_line <= line <= site.last_line for module, line in lines)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _lines_of_traceback(error: BaseException) -> Iterator[tuple[str, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield from _in_package(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next


def _in_package(filename: str, line: int) -> Iterator[tuple[str, int]]:
    if filename.startswith(f"{PACKAGE}/"):
        yield filename.removeprefix(f"{PACKAGE}/"), line


@contextmanager
def _remembering_where_errors_are_made() -> Iterator[defaultdict[int, list[tuple[str, int]]]]:
    """Give a dict that receives, for each error of ours, the lines of ours that were running when it was made.

    A traceback does not have them all: some functions return an error that their caller raises.
    """
    made: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    make = RipplePlaceError.__init__

    def make_and_remember(self: RipplePlaceError, *arguments: object, **parts: str) -> None:
        make(self, *arguments, **parts)
        frame = sys._getframe(1)
        lines = made[id(self)]
        while frame is not None:
            lines += _in_package(frame.f_code.co_filename, frame.f_lineno)
            frame = frame.f_back

    with patch.object(RipplePlaceError, "__init__", make_and_remember):
        yield made
