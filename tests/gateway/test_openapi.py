"""/openapi.json: every route stands in it, real answers fit it, and schemathesis finds no 500."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from nightmill_gateway.access.caller import OnThisMachine
from nightmill_gateway.openapi.document import document
from tests.gateway.batches.made import PATH, created, ended
from tests.gateway.door import opened
from tests.gateway.jobs.test_jobs import params
from tests.gateway.schemathesis_run import SCHEMATHESIS, tried

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.door import Answer, Door
    from tests.rig import Rig


def check(name: str, value: object) -> None:
    """Fail unless `value` fits the schema `name` of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
    jsonschema_rs.Draft202012Validator(schema).validate(value)


async def test_every_route_stands_in_it(door: Door) -> None:
    """Pages of the console are no part of the API."""
    answer = await door("GET", "/openapi.json", key="")
    assert answer.status == 200, "it needs no key"
    found = {
        (path, method.upper())
        for path, operations in answer.json["paths"].items()
        for method in operations
    }
    served = {
        (route.resource.canonical, route.method)
        for route in door.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    api = {each for each in served if each[0].startswith("/v1/")}
    opened = {(path, "GET") for path in ("/healthz", "/readyz", "/openapi.json")}
    assert found == api | opened
    assert answer.json["openapi"].startswith("3.1")
    assert answer.json["security"]


async def test_without_keys_it_asks_for_none(rig: Rig) -> None:
    """A client made of it sends none then."""
    async with opened(rig.settings, access=OnThisMachine()) as door:
        assert "security" not in (await door("GET", "/openapi.json", key="")).json


async def test_real_answers_fit_it(rig: Rig, door: Door) -> None:
    """Of batches, results, Messages, jobs and errors."""
    made: list[tuple[str, Answer]] = []
    async with rig.working():
        batch = await created(door, 3)
        made.append(("MessageBatch", await door("GET", f"{PATH}/{batch}")))
        await ended(door, batch)
        made.append(("MessageBatch", await door("GET", f"{PATH}/{batch}")))
        made.append(("MessageBatchList", await door("GET", PATH)))
        lines = (await door("GET", f"{PATH}/{batch}/results")).body.splitlines()
        made.append(("DeletedBatch", await door("DELETE", f"{PATH}/{batch}")))
        made.append(("Message", await door("POST", "/v1/messages", json=params())))
        job: dict[str, Any] = {"params": params(), "id": "a", "wait": 30}
        made.append(("Job", await door("POST", "/v1/jobs", json=job)))
        made.append(("Job", await door("GET", "/v1/jobs/a")))
        made.append(("Error", await door("GET", "/v1/jobs/b")))
        made.append(("Error", await door("POST", "/v1/messages", json={})))
    made.append(("Job", await door("POST", "/v1/jobs", json={"params": params()})))
    for name, answer in made:
        check(name, answer.json)
    assert len(lines) == 3
    for line in lines:
        check("ResultLine", json.loads(line))


@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Examples, edges and random requests: no 500, and every answer is as the document says."""
    done = tried(tmp_path, examples=6)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Tested: 11" in done.stdout
