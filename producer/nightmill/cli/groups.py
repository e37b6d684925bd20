"""`nightmill --help`: the commands in groups, by what a person wants to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

GROUPS: Final = {
    "Start": ("run", "enqueue", "worker", "serve", "simulate"),
    "Watch": ("status", "wait", "lanes", "doctor", "settings"),
    "Results": ("results", "report", "errors", "show", "retry", "verify", "prune"),
    "Control": ("pause", "resume", "adjust", "cancel", "keys"),
}
OTHERS: Final = "More"
LONGEST: Final = 60
"""Characters of a command's summary, so that no line is cut at 80 columns."""


class GroupedCommands(TyperGroup):
    """The application; its help lists the commands by GROUPS."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write one section for each group that has a command here."""
        known = {name for names in GROUPS.values() for name in names}
        others = tuple(name for name in self.commands if name not in known)
        for heading, names in {**GROUPS, OTHERS: others}.items():
            rows = [
                (name.ljust(max(map(len, known))), command.get_short_help_str(LONGEST + 1))
                for name in names
                if (command := self.get_command(ctx, name)) is not None and not command.hidden
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
