"""The consoles of tables and progress lines: they show what would control the terminal as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment

from nightmill.safety.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType


class VisibleConsole(Console):
    """A console that shows the control characters of texts; those of rich itself pass."""

    def __init__(
        self, *, stderr: bool = False, soft_wrap: bool = False, width: int | None = None
    ) -> None:
        """Print on stdout, or on stderr. Texts have no markup unless a call says so."""
        super().__init__(
            stderr=stderr, soft_wrap=soft_wrap, width=width, highlight=False, markup=False
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of a renderable; rich calls this for all that it prints."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)
