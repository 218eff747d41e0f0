"""The deploy files, read as what they are."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")
ENTRYPOINT = DEPLOY / "docker" / "entrypoint.sh"
ROLES = ("api", "controller", "router", "ray-head", "ray-worker")


def manifests():
    """Every object below `kuberay`, by kind and name; the kustomization is none."""
    found = {}
    for path in sorted((DEPLOY / "kuberay").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document["kind"] != "Kustomization":
                found[document["kind"], document["metadata"]["name"]] = document
    return found


def ray_groups():
    """The head and worker groups of both Ray clusters, by the label of their pods."""
    objects = manifests()
    clusters = [
        objects["RayCluster", "ratchet"]["spec"],
        objects["RayService", "ratchet-router"]["spec"]["rayClusterConfig"],
    ]
    groups = [
        group for spec in clusters for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]
    return {group["template"]["metadata"]["labels"]["app"]: group for group in groups}


def pods():
    """The specs of all pods, by their label."""
    found = {label: group["template"]["spec"] for label, group in ray_groups().items()}
    for (kind, name), document in manifests().items():
        if kind == "Deployment":
            found[name] = document["spec"]["template"]["spec"]
    return found


def pod_specs(part):
    """Every spec of pods below a part of a manifest, whatever kind of object holds it."""
    if isinstance(part, dict):
        if "containers" in part:
            yield part
        for inner in part.values():
            yield from pod_specs(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from pod_specs(inner)


def copied_sources():
    """What the build takes into the image from the repository."""
    return [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
        if not word.startswith("--")
    ]


def ratchet_variables(text):
    """Names of variables of the service that a text mentions."""
    return set(re.findall(r"RATCHET_[A-Z_]+", text))
