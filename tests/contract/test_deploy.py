"""The files of deploy/: valid, hardened, and in step with the times that a stop takes."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from nightmill.setting_sources import PREFIX
from nightmill.settings import Settings
from nightmill_worker.fleet.life_lock import BOOT
from nightmill_worker.machine.supervisor import KILL_S

ROOT: Final = Path(__file__).parents[2]
BASE: Final = ROOT / "deploy" / "kubernetes" / "base"
OVERLAY: Final = ROOT / "deploy" / "kubernetes" / "production"
UNITS: Final = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
KUBECTL: Final = shutil.which("kubectl") or ""
ANALYZE: Final = shutil.which("systemd-analyze") or ""
EXPOSURE_MAX: Final = 2.0
GRACE_S: Final = Settings.model_fields["grace_s"].default

Resource = dict[str, Any]


def documents(path: Path) -> list[Resource]:
    """Return the resources of a file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def kustomization(folder: Path) -> Resource:
    """Return the kustomization of a folder."""
    (found,) = documents(folder / "kustomization.yaml")
    return found


def base() -> dict[tuple[str, str], Resource]:
    """Return (kind, name) -> resource."""
    found = {}
    for name in kustomization(BASE)["resources"]:
        for each in documents(BASE / name):
            found[each["kind"], each["metadata"]["name"]] = each
    return found


def merged(into: Any, patch: Any) -> Any:  # noqa: ANN401 - any YAML
    """Return what a strategic merge makes of two values: lists of named things merge by name."""
    if isinstance(into, dict) and isinstance(patch, dict):
        return {**into, **{key: merged(into.get(key), value) for key, value in patch.items()}}
    if isinstance(patch, list) and patch and isinstance(patch[0], dict) and "name" in patch[0]:
        by_name = {each["name"]: each for each in into or ()}
        assert {each["name"] for each in patch} <= set(by_name), "a patch adds nothing here"
        return [
            merged(each, next((p for p in patch if p["name"] == name), {}))
            for name, each in by_name.items()
        ]
    return copy.deepcopy(patch)


def overlaid() -> dict[tuple[str, str], Resource]:
    """Return the resources of the overlay. A patch whose target is not there is a KeyError."""
    found = base()
    for patch in kustomization(OVERLAY)["patches"]:
        for each in documents(OVERLAY / patch["path"]):
            key = each["kind"], each["metadata"]["name"]
            found[key] = merged(found[key], each)
    return found


def literals(folder: Path) -> dict[str, str]:
    """Return the settings that a kustomization gives."""
    (generator,) = kustomization(folder)["configMapGenerator"]
    return dict(each.split("=", 1) for each in generator["literals"])


def pods(resources: dict[tuple[str, str], Resource]) -> Iterator[tuple[str, Resource]]:
    """Yield the name and the pod of each Deployment."""
    for (kind, name), resource in resources.items():
        if kind == "Deployment":
            yield name, resource["spec"]["template"]["spec"]


@pytest.mark.parametrize("resources", [base(), overlaid()], ids=["base", "production"])
def test_every_manifest_is_valid(resources: dict[tuple[str, str], Resource]) -> None:
    """Also what the patches make of them; an unknown field is an error."""
    version = kubernetes_validate.latest_version()
    for resource in resources.values():
        kubernetes_validate.validate(resource, version, strict=True)
    kinds = {kind for kind, _ in resources}
    assert {"HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "Service"} <= kinds


@pytest.mark.skipif(not KUBECTL, reason="no kubectl on PATH")
def test_kustomize_makes_the_same() -> None:
    """The merge of these tests is a small one."""
    done = subprocess.run(
        [KUBECTL, "kustomize", str(OVERLAY)], capture_output=True, text=True, check=True
    )
    made = {(r["kind"], r["metadata"]["name"]): r for r in yaml.safe_load_all(done.stdout)}
    for key, expected in overlaid().items():
        spec = made[key].get("spec", {})
        if key[0] == "Deployment":
            ours = expected["spec"]["template"]["spec"]
            theirs = spec["template"]["spec"]
            for name in ("terminationGracePeriodSeconds", "securityContext"):
                assert theirs[name] == ours[name]
            assert theirs["containers"][0]["args"] == ours["containers"][0]["args"]


def test_every_file_is_part_of_a_kustomization() -> None:
    """A file that is not named does nothing."""
    for folder, named in (
        (BASE, kustomization(BASE)["resources"]),
        (OVERLAY, [each["path"] for each in kustomization(OVERLAY)["patches"]]),
    ):
        files = {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")}
        assert files == {*named, "kustomization.yaml"}


@pytest.mark.parametrize(
    ("resources", "folder"), [(base(), BASE), (overlaid(), OVERLAY)], ids=["base", "production"]
)
def test_a_pod_has_the_time_that_a_stop_takes(
    resources: dict[tuple[str, str], Resource], folder: Path
) -> None:
    """Calls that are cut off are paid for again."""
    grace_s = float(literals(folder)[f"{PREFIX}GRACE_S"])
    for name, pod in pods(resources):
        (container,) = pod["containers"]
        pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed = pause_s + grace_s + KILL_S
        assert needed <= pod["terminationGracePeriodSeconds"] < needed + 15, name


def test_pods_have_no_more_rights_than_they_need() -> None:
    """No root, no writable image, no secret in a variable, no credential where none is used."""
    for name, pod in pods(base()):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert "memory" in container["resources"]["limits"]
        assert {"livenessProbe", "startupProbe"} <= set(container)
        assert all("secretKeyRef" not in str(each) for each in container.get("env", ()))
    gateway = dict(pods(base()))["nightmill-gateway"]
    (secret,) = (v["secret"] for v in gateway["volumes"] if "secret" in v)
    assert {item["key"] for item in secret["items"]} == {"redis_url", "store_url"}


def test_selectors_find_the_pods() -> None:
    """A budget, a policy or a service without pods is silent."""
    resources = base()
    labels = [
        r["spec"]["template"]["metadata"]["labels"]
        for (kind, _), r in resources.items()
        if kind == "Deployment"
    ]
    for (kind, name), resource in resources.items():
        spec = resource.get("spec", {})
        selector = {
            "PodDisruptionBudget": lambda s: s["selector"]["matchLabels"],
            "NetworkPolicy": lambda s: s["podSelector"]["matchLabels"],
            "Service": lambda s: s["selector"],
            "Deployment": lambda s: s["selector"]["matchLabels"],
        }.get(kind)
        if selector:
            assert any(selector(spec).items() <= each.items() for each in labels), (kind, name)
    target = resources["HorizontalPodAutoscaler", "nightmill-worker"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in resources


def test_settings_of_the_manifests_exist() -> None:
    """A variable that is no setting does nothing."""
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for folder in (BASE, OVERLAY):
        for name in literals(folder):
            assert name.removesuffix("_FILE") in names


def test_workers_are_scaled_by_a_metric_that_exists() -> None:
    """A rule about another name finds nothing, and the number of workers stays as it is."""
    text = (BASE / "worker_scaling.yaml").read_text()
    (series,) = re.findall(r"seriesQuery: (\w+)", text)
    assert f"`{series}`" in (ROOT / "docs" / "metrics.md").read_text()
    (made,) = re.findall(r"name: {as: (\w+)}", text)
    metric = base()["HorizontalPodAutoscaler", "nightmill-worker"]["spec"]["metrics"][0]
    assert metric["external"]["metric"]["name"] == made


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_gives_the_time_that_a_stop_takes(unit: Path) -> None:
    """And no secret stands in it."""
    text = unit.read_text()
    assert f"TimeoutStopSec={GRACE_S + KILL_S:.0f}\n" in text
    assert "KillMode=mixed" in text
    secrets = set(re.findall(r"^LoadCredential=(\w+):", text, re.MULTILINE))
    assert secrets == set(re.findall(r"_FILE=%d/(\w+)", text)) >= {"redis_url", "store_url"}
    assert ("api_key" in secrets) == ("worker" in unit.name)


def test_workers_of_a_unit_can_read_the_boot_id() -> None:
    """Without /proc/sys the jobs of a worker that was killed wait until their leases end.

    A gateway needs nothing there.
    """
    for unit in UNITS:
        assert ("\nProcSubset=pid\n" in unit.read_text()) == ("worker" not in unit.name)
    assert str(BOOT).startswith("/proc/sys/")


@pytest.mark.skipif(not ANALYZE, reason="no systemd-analyze on PATH")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    """A misspelled directive is only a warning in a log; the exposure is what systemd counts."""
    copied = tmp_path / unit.name
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
    copied.write_text(text)
    verified = subprocess.run(
        [ANALYZE, "verify", "--man=no", str(copied)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--no-pager", str(copied)],
        capture_output=True,
        text=True,
        check=False,
    )
    level = re.search(r"exposure level for \S+: ([\d.]+)", rated.stdout)
    assert level is not None
    assert float(level[1]) <= EXPOSURE_MAX


def test_compose_runs_what_a_service_needs() -> None:
    """Gateway and workers share the image, the settings and the store; each is checked."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {name for name, each in services.items() if "profiles" not in each} == {
        *("redis", "postgres", "gateway", "worker")
    }
    assert {name for name, each in services.items() if each.get("profiles") == ["observe"]} == {
        *("prometheus", "grafana")
    }
    worker, gateway = services["worker"], services["gateway"]
    assert worker["environment"] == gateway["environment"]
    for name in ("worker", "gateway"):
        assert services[name]["healthcheck"]["test"][-1] == "--healthcheck"
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
    for each in services.values():
        assert all(str(port).startswith("127.0.0.1:") for port in each.get("ports", ()))
        for volume in each.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (ROOT / source).is_dir()
