"""Acting on batches: the page that asks for confirmation, and the action after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from aiohttp import web

from nightmill.errors import InvalidLimitError, NightmillError
from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.answers.errors import ApiError, not_found
from nightmill_gateway.console.access import may_see
from nightmill_gateway.console.audited import THIS_MACHINE
from nightmill_gateway.console.batches.changes import ACTIONS, RETRIED, SOON_S, problem_of
from nightmill_gateway.console.batches.listing import Filter, listing
from nightmill_gateway.console.forms import FORM, own_path
from nightmill_gateway.console.pages import render, see_other

if TYPE_CHECKING:
    from nightmill_gateway.access.caller import Caller
    from nightmill_gateway.console.audited import Audited
    from nightmill_gateway.console.batches.changes import Changes
    from nightmill_gateway.console.forms import Form
    from nightmill_gateway.console.looks import Looks

SHOWN: Final = 20
"""Batches that a confirmation lists by name."""
MOST: Final = 1_000
"""Batches of one action: its form names each of them."""
DONE: Final = {
    "pause": "paused",
    "resume": "resumed",
    "retry": "retried",
    "adjust": "adjusted",
    "cancel": "cancelled",
}
_DETAILS: Final = (
    *("weight", "concurrency", "expires", "budget_usd", "budget_tokens"),
    *("jobs", "error"),
)
"""Fields of a form that the audit log keeps."""


class BatchActions:
    """The handlers, over connections that are open while they are used."""

    def __init__(self, looks: Looks, changes: Changes, audited: Audited) -> None:
        """Take what looks at batches, what changes them, and the audit log."""
        self._looks = looks
        self._changes = changes
        self._audited = audited

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/batches/confirm", self._confirm),
            web.post("/batches/act", self._act),
        ]

    async def _confirm(self, request: web.Request) -> web.Response:
        """Show what an action would do, and to which batches."""
        form, action = request[FORM], _action(request[FORM])
        names = await self._chosen(request[CALLER], form)
        back = own_path(form["back"] or f"/batches?{form['filter']}".rstrip("?"))
        if not names:
            return see_other(back, "No batch is selected.")
        if len(names) > MOST:
            some = f"{len(names):,} batches match, and an action takes {MOST:,} at most"
            return see_other(back, f"{some}: narrow the search.")
        return self._question(request, action, names, back)

    def _question(
        self, request: web.Request, action: str, names: list[str], back: str, problem: str = ""
    ) -> web.Response:
        return render(
            request,
            "batches/confirm.html",
            status=400 if problem else 200,
            action=action,
            says=ACTIONS[action],
            names=names,
            shown=names[:SHOWN],
            what=f'"{names[0]}"' if len(names) == 1 else f"{len(names):,} batches",
            back=back,
            form=request[FORM],
            retried=RETRIED,
            problem=problem,
        )

    async def _chosen(self, caller: Caller, form: Form) -> list[str]:
        """Return the batches of a form, all of them known and the caller's. Raises ApiError."""
        view = await self._looks.all()
        if form["which"] == "matching":
            wanted = Filter.of(dict(parse_qsl(form["filter"])))
            return listing(view, caller, wanted).matching
        names = list(dict.fromkeys(form.all("batch")))
        for name in names:
            if not name or not may_see(caller, name) or name not in view.counts:
                raise not_found(f'batch "{name:.80}"')
        return names

    async def _act(self, request: web.Request) -> web.Response:
        """Do what was confirmed; what takes longer than SOON_S goes on behind the page."""
        form, caller, action = request[FORM], request[CALLER], _action(request[FORM])
        names, back = await self._chosen(caller, form), own_path(form["back"] or "/batches")
        try:
            work = self._changes.work(action, form, caller.name or THIS_MACHINE)
        except InvalidLimitError as error:
            return self._question(request, action, names, back, str(error))
        detail = ", ".join(f"{name} {form[name]}" for name in _DETAILS if form[name].strip())
        doing = self._changes.behind(self._audited.run(caller, action, names, work, detail=detail))
        try:
            async with asyncio.timeout(SOON_S):
                found = await asyncio.shield(doing)
        except TimeoutError:
            return see_other(back, f"{action} goes on; its outcome will stand on the page Audit.")
        finally:
            self._looks.forget()
        return see_other(back, _summary(action, found))


def _action(form: Form) -> str:
    if form["action"] not in ACTIONS:
        raise ApiError(400, f"action: given {form['action']!a:.40}; allowed: {', '.join(ACTIONS)}")
    return form["action"]


def _summary(action: str, found: dict[str, NightmillError | str]) -> str:
    """Return what an action has done, for the page after it."""
    done = {name: each for name, each in found.items() if isinstance(each, str)}
    if len(found) == 1 and done:
        ((name, outcome),) = done.items()
        more = "" if outcome == DONE[action] else f": {outcome}"
        return f'"{name}" is {DONE[action]}{more}'
    text = f"{len(done):,} of {len(found):,} batches {DONE[action]}"
    problem = problem_of(found)
    return f"{text}. Not done: {problem}" if problem else text
