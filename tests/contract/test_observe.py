"""The alert rules and the dashboard read what /metrics has, and each alert says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.contract.test_docs import table

OBSERVE: Final = Path(__file__).parents[2] / "deploy" / "observe"
ALERTS: Final = OBSERVE / "alerts.yml"
NAME: Final = re.compile(r"\bnightmill_\w+")
SUFFIXES: Final = ("_bucket", "_sum", "_count")


def promtool(*args: str) -> None:
    """Run promtool in the folder of the rules; it must find nothing wrong."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run([found, *args], cwd=OBSERVE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    return [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads((OBSERVE / "dashboard.json").read_text())
    return found


def queries() -> list[str]:
    """Return every query of the dashboard, with a real interval."""
    return [
        target["expr"].replace("$__rate_interval", "5m")
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


def documented() -> set[str]:
    """Return every metric of docs/metrics.md, which a test compares with what is exposed."""
    found = set()
    for heading in ("metric of workers", "metric of the fleet", "metric of the gateway"):
        for row in table("metrics.md", heading):
            name = row[0].strip("`")
            found |= {name + end for end in SUFFIXES} if row[1] == "histogram" else {name}
    return found


def test_the_rules_are_rules() -> None:
    """Prometheus refuses to start with a rule that it cannot read."""
    promtool("check", "rules", ALERTS.name)


def test_each_alert_fires_for_what_it_is_for_and_for_nothing_else() -> None:
    """The series of alerts_test.yml: a healthy fleet, and what is wrong."""
    promtool("test", "rules", "alerts_test.yml")


def test_each_alert_is_tried() -> None:
    """In a healthy fleet, and where it must fire."""
    tests = yaml.safe_load((OBSERVE / "alerts_test.yml").read_text())["tests"]
    tried = [each for test in tests for each in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {each["alertname"] for each in tried if each["exp_alerts"]} == names
    assert {each["alertname"] for each in tried if not each["exp_alerts"]} == names


def test_each_alert_has_its_line_in_operations() -> None:
    """An operator who is woken by it must read what to do."""
    listed = [row[0].strip("`") for row in table("operations.md", "alert")]
    assert listed == [rule["alert"] for rule in rules()]


def test_every_query_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    """By Prometheus's own parser."""
    made = [{"record": f"q:{n}", "expr": expr} for n, expr in enumerate(queries())]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "q", "rules": made}]}))
    promtool("check", "rules", str(tmp_path / "queries.yml"))


def test_rules_and_dashboard_read_only_what_is_exposed() -> None:
    """A misspelt metric is an alert that never fires."""
    asked = {name for rule in rules() for name in NAME.findall(rule["expr"])}
    shown = {name for query in queries() for name in NAME.findall(query)}
    assert asked <= documented()
    assert shown <= documented()


def test_grafanas_own_model_knows_every_field_of_the_dashboard() -> None:
    """Grafana passes over a field that it does not know: what is misspelt changes nothing."""
    register_default_plugins()
    given = dashboard()
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    assert unknown(given, known) == []
    given["panels"][1]["fieldConfig"]["defaults"]["units"] = "s"
    given["panels"][1]["targets"][0]["legend"] = "x"
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    assert {each.rpartition(".")[2] for each in unknown(given, known)} == {"units", "legend"}


def unknown(given: object, known: object, at: str = "") -> list[str]:
    """Return the places of what Grafana's model does not have, or has as something else."""
    if isinstance(given, dict) and isinstance(known, dict):
        places = [(f"{at}.{name}", each, known.get(name)) for name, each in given.items()]
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        pairs = zip(given, known, strict=True)
        places = [(f"{at}[{n}]", *pair) for n, pair in enumerate(pairs)]
    else:
        return [] if given == known else [at]
    return [found for place, one, other in places for found in unknown(one, other, place)]


def test_panels_and_queries_ask_the_data_source_that_is_chosen() -> None:
    """A fixed id of a data source exists on one Grafana only."""
    (variable,) = dashboard()["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    chosen = {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["targets"]
        assert all(each["datasource"] == chosen for each in (panel, *panel["targets"]))
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names)


def test_the_dashboard_shows_every_metric() -> None:
    """What is counted and shown nowhere is not looked at."""
    shown = {name.removesuffix("_bucket") for query in queries() for name in NAME.findall(query)}
    wanted = {name for name in documented() if not name.endswith(("_sum", "_count"))}
    assert shown == {name.removesuffix("_bucket") for name in wanted}


def test_the_panels_of_the_dashboard_fit_their_grid() -> None:
    """Grafana moves panels that overlap, and ids must be unique."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert all({"refId", "expr"} <= target.keys() for target in panel.get("targets", ()))
