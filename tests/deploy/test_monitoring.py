"""Prometheus and Grafana: they ask for metrics that exist, of targets that exist."""

import json
import re

import pytest
import yaml

from ratchet.service.api.metrics import ApiMetrics
from tests.deploy.files import DEPLOY, SERVICES

CONFIG = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
BOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "ratchet.json").read_text(encoding="utf-8"))


def expressions():
    rules = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    return rules + [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def exposed():
    """Names of the series that the API gives once it has answered something."""
    metrics = ApiMetrics()
    metrics.observe("GET", "/v1/updates", 200, 0.01)
    text = metrics.render({("update", "queued"): 1}).decode()
    return set(re.findall(r"^(ratchet_\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("expression", expressions())
def test_a_metric_of_ours_that_is_asked_for_is_given(expression):
    asked = set(re.findall(r"\bratchet_\w+", expression))
    assert asked <= exposed()


def test_rays_metrics_are_ones_that_ray_gives():
    from ray.dashboard.modules.reporter import reporter_agent

    asked = {name for text in expressions() for name in re.findall(r"\bray_(\w+)", text)}
    assert asked
    assert asked <= set(reporter_agent.METRICS_GAUGES)


def test_targets_are_services_of_the_compose_file():
    targets = [
        target
        for job in CONFIG["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    assert targets == ["api:8080", "ray-head:8090"]
    assert {target.partition(":")[0] for target in targets} <= SERVICES.keys()
    entry = (DEPLOY / "docker" / "entrypoint.sh").read_text(encoding="utf-8")
    assert entry.count("--metrics-export-port 8090") == 2


def test_rule_files_exist_and_are_mounted():
    for name in CONFIG["rule_files"]:
        assert (DEPLOY / "prometheus" / name).is_file()
    assert "../prometheus:/etc/prometheus:ro" in SERVICES["prometheus"]["volumes"]


def test_the_dashboard_asks_the_source_that_is_provisioned():
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {source["uid"]}
    (provider,) = yaml.safe_load((folder / "dashboards" / "ratchet.yaml").read_text())["providers"]
    mounts = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts
