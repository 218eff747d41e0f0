"""The compose file: what it names exists elsewhere, and what is private stays so."""

import re
import subprocess
import sys

import pytest

from service.settings import Settings
from tests.deploy.files import COMPOSE, DEPLOY, ROLES, SERVICES, ratchet_variables

TEXT = (DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8")
OURS = {name: spec for name, spec in SERVICES.items() if "RATCHET_IMAGE" in spec["image"]}
NOT_SETTINGS = {"RATCHET_IMAGE", "RATCHET_HEALTH_API"}


def test_each_part_is_started_as_a_role_of_the_image():
    commands = {name: spec["command"][0] for name, spec in OURS.items() if name != "bucket"}
    assert sorted(commands.values()) == sorted(ROLES)
    assert all(name == role for name, role in commands.items())


def test_every_variable_of_the_service_is_a_setting():
    names = {f"RATCHET_{field}".upper() for field in Settings.model_fields}
    assert ratchet_variables(TEXT) - names == NOT_SETTINGS


def test_the_settings_take_what_the_compose_file_gives_them(monkeypatch):
    given = SERVICES["controller"]["environment"]
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.launcher == "ray"
    assert settings.data_roots == ("/var/lib/ratchet/files", "s3://ratchet/data")
    assert settings.store == "s3://ratchet/state"


def test_every_variable_that_is_left_to_the_reader_is_in_the_example():
    wanted = set(re.findall(r"\$\{([A-Z_]+)", TEXT)) - {"SEAWEEDFS_TAG"}
    example = (DEPLOY / "compose" / "env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)) == wanted


def test_only_what_is_meant_for_people_is_published_and_only_here():
    published = [port for spec in SERVICES.values() for port in spec.get("ports", [])]
    assert sorted(published) == [
        "127.0.0.1:3000:3000",
        "127.0.0.1:5000:5000",
        "127.0.0.1:8000:8000",
        "127.0.0.1:8080:8080",
    ]


def test_ray_asks_for_the_token_of_a_secret_file():
    for spec in OURS.values():
        assert spec["environment"]["RAY_AUTH_MODE"] == "token"
        assert spec["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert spec["secrets"] == ["ray_token"]
    assert COMPOSE["secrets"] == {"ray_token": {"file": "./ray_token"}}


@pytest.mark.parametrize("name", ["ray-head", "ray-worker", "router"])
def test_ray_nodes_have_shared_memory(name):
    assert SERVICES[name]["shm_size"]


def test_what_a_service_refers_to_is_declared():
    for name, spec in SERVICES.items():
        for volume in spec.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / "compose" / source).is_dir(), (name, source)
            else:
                assert source in COMPOSE["volumes"], (name, source)
        for config in spec.get("configs", []):
            assert config["source"] in COMPOSE["configs"]
        assert set(spec.get("depends_on", [])) <= SERVICES.keys()
        assert set(spec["networks"]) <= COMPOSE["networks"].keys()


def test_addresses_inside_name_services_and_the_ports_that_they_listen_at():
    listening = {
        "api": 8080,
        "router": 8000,
        "mlflow": 5000,
        "postgres": 5432,
        "s3": 8333,
        "ray-head": 8265,
    }
    hosts = re.findall(r"(?:http://|@)([a-z0-9-]+):(\d+)", TEXT)
    assert hosts
    assert {(host, int(port)) for host, port in hosts} <= set(listening.items())
    assert f"-s3.port={listening['s3']}" in SERVICES["s3"]["command"]
    assert f"--port={listening['mlflow']}" in SERVICES["mlflow"]["command"]


def test_the_password_of_the_database_is_in_no_command_and_only_where_it_is_needed():
    holders = {
        name
        for name, spec in SERVICES.items()
        if "POSTGRES_PASSWORD" in str(spec.get("environment"))
    }
    assert holders == {"api", "controller", "mlflow", "postgres"}
    assert all("PASSWORD" not in str(spec.get("command")) for spec in SERVICES.values())
    known = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert known.endswith("@postgres:5432/mlflow")


def test_no_password_has_a_default():
    assert re.findall(r"\$\{[A-Z_]*(?:PASSWORD|SECRET|KEY)[A-Z_]*:-", TEXT) == []


@pytest.mark.slow
def test_mlflow_knows_every_option_that_it_is_started_with():
    command = [sys.executable, "-m", "mlflow", "server", "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    known = set(re.findall(r"--[a-z][a-z-]+", shown))
    given = {word.partition("=")[0] for word in SERVICES["mlflow"]["command"]}
    assert given <= known


@pytest.mark.slow
def test_the_bucket_is_made_and_made_again_without_harm(s3, tmp_path):
    program = COMPOSE["configs"]["make_bucket"]["content"]
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert "ratchet" in [found["Name"] for found in s3.list_buckets()["Buckets"]]
