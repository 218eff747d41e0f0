"""Covers `service.serving.ray_service`.

The Kubernetes manifests: plain objects by their schemas, KubeRay's by what we rely on.
"""

import ipaddress
import re

import kubernetes_validate
import pytest
import yaml

from ratchet.service.settings import Settings
from tests.deploy.files import (
    DEPLOY,
    ROOT,
    manifests,
    pod_specs,
    pods,
    ratchet_variables,
    ray_groups,
)

KUBERNETES = "1.33"
OBJECTS = manifests()
PLAIN = {key: found for key, found in OBJECTS.items() if "ray.io" not in found["apiVersion"]}
RAY_FIELDS = {
    "RayCluster": {
        "rayVersion",
        "authOptions",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "gcsFaultToleranceOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    },
    "RayService": {"serveConfigV2", "rayClusterConfig"},
}


@pytest.mark.parametrize("key", PLAIN, ids="/".join)
def test_a_plain_object_fits_its_schema(key):
    kubernetes_validate.validate(PLAIN[key], KUBERNETES, strict=True)


@pytest.mark.parametrize("label", sorted(ray_groups()))
def test_a_pod_template_of_ray_fits_the_schema_of_a_pod(label):
    template = ray_groups()[label]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": label, **template["metadata"]},
        "spec": template["spec"],
    }
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("kind", ["RayCluster", "RayService"])
def test_a_ray_object_has_the_fields_of_its_kind_and_no_others(kind):
    (found,) = [document for (own, _), document in OBJECTS.items() if own == kind]
    assert found["apiVersion"] == "ray.io/v1"
    assert found["spec"].keys() == RAY_FIELDS[kind]
    cluster = found["spec"] if kind == "RayCluster" else found["spec"]["rayClusterConfig"]
    assert cluster.keys() <= RAY_FIELDS["RayCluster"]
    import ray

    assert cluster["rayVersion"] == ray.__version__  # a string: quoted in the file
    assert cluster["authOptions"] == {"mode": "token", "secretName": "ratchet-ray-token"}
    assert "redisAddress" in cluster["gcsFaultToleranceOptions"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_training_cluster_grows_with_the_second_autoscaler():
    spec = OBJECTS["RayCluster", "ratchet"]["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"


def test_the_router_is_built_from_its_config():
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.schema import ServeDeploySchema

    text = OBJECTS["RayService", "ratchet-router"]["spec"]["serveConfigV2"]
    (app,) = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    module, _, name = app.import_path.partition(":")
    builder = getattr(__import__(module, fromlist=[name]), name)
    built = call_user_app_builder_with_args_if_necessary(builder, app.args)
    assert built._bound_deployment.name == "router"


def test_every_variable_is_a_setting_and_every_setting_is_taken(monkeypatch):
    names = {f"RATCHET_{field}".upper() for field in Settings.model_fields}
    text = yaml.safe_dump_all(OBJECTS.values())
    assert ratchet_variables(text) <= names
    for name, value in OBJECTS["ConfigMap", "ratchet-settings"]["data"].items():
        monkeypatch.setenv(name, value)
    assert Settings().store == "s3://ratchet/state"


@pytest.mark.parametrize("label", sorted(pods()))
def test_a_pod_runs_as_nobody_special(label):
    spec = pods()[label]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["image"] == "ratchet"
        assert container["resources"]["limits"]["memory"]
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_probes_ask_for_paths_that_the_api_has():
    from ratchet.service.api.app import create_app

    paths = set(create_app(Settings()).openapi()["paths"]) | {"/metrics"}
    (container,) = pods()["ratchet-api"]["containers"]
    probes = [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
    assert {probe["httpGet"]["path"] for probe in probes} <= paths
    annotations = OBJECTS["Service", "ratchet-api"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] in paths


def test_ports_agree():
    (container,) = pods()["ratchet-api"]["containers"]
    assert container["ports"] == [
        {"name": "http", "containerPort": Settings.model_fields["api_port"].default}
    ]
    service = OBJECTS["Service", "ratchet-api"]["spec"]["ports"]
    assert service == [{"name": "http", "port": 8080, "targetPort": "http"}]
    head = ray_groups()["ratchet-head"]["template"]["spec"]["containers"][0]["ports"]
    assert {port["name"]: port["containerPort"] for port in head}["dashboard"] == 8265
    settings = OBJECTS["ConfigMap", "ratchet-settings"]["data"]
    assert settings["RATCHET_RAY_JOBS_URL"] == "http://ratchet-head-svc:8265"


def test_no_pod_gets_variables_from_the_names_of_services(monkeypatch):
    specs = [spec for document in OBJECTS.values() for spec in pod_specs(document)]
    assert len(specs) == len(pods())
    assert [spec["enableServiceLinks"] for spec in specs] == [False] * len(specs)
    (name,) = [name for kind, name in OBJECTS if kind == "Service"]
    variable = f"{name}_PORT".upper().replace("-", "_")
    monkeypatch.setenv(variable, "tcp://10.0.0.1:8080")  # what would be there with links
    with pytest.raises(ValueError, match="api_port"):
        Settings()


def test_a_controller_is_not_ended_for_what_is_wrong_elsewhere():
    (container,) = pods()["ratchet-controller"]["containers"]
    assert [key for key in container if key.endswith("Probe")] == []
    reached = yaml.safe_dump(OBJECTS["NetworkPolicy", "api"]["spec"]["ingress"])
    assert "ratchet-controller" not in reached  # it asks the API for nothing


@pytest.mark.parametrize("label", sorted(ray_groups()))
def test_shared_memory_is_left_to_kuberay(label):
    assert "/dev/shm" not in yaml.safe_dump(ray_groups()[label])


@pytest.mark.parametrize("label", sorted(ray_groups()))
def test_prometheus_finds_a_ray_pod_by_the_port_of_its_metrics(label):
    template = ray_groups()[label]["template"]
    ports = template["spec"]["containers"][0]["ports"]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(
            {port["name"]: port["containerPort"] for port in ports}["metrics"]
        ),
        "prometheus.io/path": "/metrics",
    }


def test_base_models_are_kept_where_the_home_is_shared_and_only_there():
    kept = {
        label: entry["value"]
        for label, spec in pods().items()
        for entry in spec["containers"][0].get("env", [])
        if entry["name"] == "HF_HOME"
    }
    home = OBJECTS["ConfigMap", "ratchet-settings"]["data"]["RATCHET_HOME"]
    assert kept == dict.fromkeys(["ratchet-head", "ratchet-worker"], f"{home}/huggingface")


def test_pods_and_names_are_reached_on_every_network_and_the_clouds_metadata_on_none():
    first, names, outside = OBJECTS["NetworkPolicy", "no-metadata-service"]["spec"]["egress"]
    assert first == {"to": [{"namespaceSelector": {}}]}
    assert names["to"] == [{"ipBlock": {"cidr": "169.254.20.10/32"}}]
    assert sorted((port["port"], port["protocol"]) for port in names["ports"]) == [
        (53, "TCP"),
        (53, "UDP"),
    ]
    shut = {block["ipBlock"]["cidr"]: block["ipBlock"]["except"] for block in outside["to"]}
    for network, address in [
        ("0.0.0.0/0", "169.254.169.254"),
        ("::/0", "fd00:ec2::254"),
        ("::/0", "fd20:ce::254"),
        ("::/0", "fe80::a9fe:a9fe"),
    ]:
        parts = [ipaddress.ip_network(part) for part in shut[network]]
        assert all(part.network_address in ipaddress.ip_network(network) for part in parts)
        assert any(ipaddress.ip_address(address) in part for part in parts)


def test_the_guide_lets_mlflow_answer_to_the_name_that_the_service_asks_for():
    address = OBJECTS["ConfigMap", "ratchet-settings"]["data"]["RATCHET_TRACKING_URI"]
    guide = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert f"--allowed-hosts={address.removeprefix('http://')}" in guide


def test_every_pod_that_a_policy_or_budget_means_exists():
    labels = set(pods())
    for (kind, name), document in OBJECTS.items():
        if kind in ("NetworkPolicy", "PodDisruptionBudget"):
            meant = set(re.findall(r"\bratchet-[a-z-]+\b", yaml.safe_dump(document["spec"])))
            assert meant - {"ratchet-gateway"} <= labels, name


def test_nothing_reaches_a_pod_unless_a_policy_says_so():
    deny = OBJECTS["NetworkPolicy", "default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []}
    open_to_gateway = {
        port["port"]
        for (kind, _), document in OBJECTS.items()
        if kind == "NetworkPolicy"
        for rule in document["spec"].get("ingress", [])
        if "ratchet-gateway" in yaml.safe_dump(rule)
        for port in rule["ports"]
    }
    assert open_to_gateway == {8000, 8080}


def test_secrets_are_examples_and_are_not_applied():
    kustomization = yaml.safe_load((DEPLOY / "kuberay" / "kustomization.yaml").read_text())
    applied = set(kustomization["resources"])
    files = {path.name for path in (DEPLOY / "kuberay").glob("*.yaml")}
    assert files - applied == {"kustomization.yaml", "secrets.example.yaml"}
    wanted = set(
        re.findall(
            r"(?:secretName|name): (ratchet-(?:ray-token|secrets|database|redis))\b",
            yaml.safe_dump_all(OBJECTS.values()),
        )
    )
    assert wanted == {name for kind, name in OBJECTS if kind == "Secret"}


def test_the_database_is_told_to_the_api_and_the_controller_alone():
    told = {label for label, spec in pods().items() if "ratchet-database" in yaml.safe_dump(spec)}
    assert told == {"ratchet-api", "ratchet-controller"}
    secret = OBJECTS["Secret", "ratchet-database"]["stringData"]
    assert list(secret) == ["RATCHET_DATABASE_URL"]
    assert "RATCHET_DATABASE_URL" not in OBJECTS["Secret", "ratchet-secrets"]["stringData"]


def test_one_api_at_a_time_locks_uploads_and_counts_requests():
    spec = OBJECTS["Deployment", "ratchet-api"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    budgets = [name for kind, name in OBJECTS if kind == "PodDisruptionBudget"]
    assert "ratchet-api" not in budgets  # none of one pod could be kept, and no node drained
