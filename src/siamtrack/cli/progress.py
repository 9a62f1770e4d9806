"""A progress bar with frames a second and time left, on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

errors = Console(stderr=True)
_TITLE = 32  # characters, so that the bar has room on a terminal of 80


class _Speed(ProgressColumn):
    """Units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the column's text."""
        return Text(f"{task.speed:.1f} {self._unit}/s" if task.speed else "")


@contextmanager
def progress_bar(title: str, total: int | None, unit: str = "frames", shown: bool = True) -> Iterator[Progress]:
    """Yield a progress display with one task; advance it with ``advance(display.task_ids[0])``.

    Nothing is drawn unless ``shown``, nor where stderr is no terminal.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        _Speed(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, disable=not (shown and errors.is_terminal), transient=True) as display:
        display.add_task(shorten(title), total=total)
        yield display


def shorten(title: str) -> str:
    """Return a title that fits and is not read as markup."""
    return escape(title if len(title) <= _TITLE else "…" + title[1 - _TITLE :])
