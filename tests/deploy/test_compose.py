"""The compose file: what it names exists elsewhere, and what is private stays so."""

import os
import re
import shutil
import subprocess
import sys

import psycopg
import pytest

from ratchet.service.settings import Settings
from tests.deploy.files import COMPOSE, DEPLOY, ROLES, ROOT, SERVICES, ratchet_variables
from tests.postgres import postgres_server

TEXT = (DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8")
OURS = {name: spec for name, spec in SERVICES.items() if "RATCHET_IMAGE" in spec["image"]}
NOT_SETTINGS = {"RATCHET_IMAGE", "RATCHET_HEALTH_API"}
EXAMPLE = dict(
    re.findall(
        r"^([A-Z0-9_]+)=(.*)$",
        (DEPLOY / "compose" / "env.example").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
STORE = "${RAY_OBJECT_STORE_BYTES:-4000000000}"


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
    wanted = set(re.findall(r"\$\{([A-Z0-9_]+)", TEXT))
    assert EXAMPLE.keys() == wanted


def test_a_default_is_what_the_example_says():
    defaults = re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", TEXT)
    assert defaults
    assert [(name, EXAMPLE[name]) for name, _ in defaults] == defaults


def test_no_image_moves_by_itself():
    tags = [spec["image"].rpartition(":")[2] for spec in SERVICES.values()]
    assert "latest" not in " ".join(tags)
    release = tuple(int(part) for part in EXAMPLE["SEAWEEDFS_TAG"].split("."))
    assert release > (4, 16)  # where conditional writes did not hold


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
    assert SERVICES[name]["shm_size"] == "${RAY_SHM_SIZE:-4gb}"


@pytest.mark.parametrize("name", ["ray-head", "ray-worker"])
def test_a_ray_node_has_an_object_store_that_fits_into_its_shared_memory(name):
    assert f"--object-store-memory={STORE}" in SERVICES[name]["command"]
    gigabytes = EXAMPLE["RAY_SHM_SIZE"].removesuffix("gb")
    assert int(EXAMPLE["RAY_OBJECT_STORE_BYTES"]) < int(gigabytes) * 2**30


def test_the_routers_own_ray_keeps_to_the_same_size():
    (variable,) = [
        name for name, value in SERVICES["router"]["environment"].items() if value == STORE
    ]
    program = (
        "from ray._private.utils import resolve_object_store_memory;"
        "print(resolve_object_store_memory(10**12))"
    )
    size = EXAMPLE["RAY_OBJECT_STORE_BYTES"]
    command = [sys.executable, "-c", program]
    environment = os.environ | {variable: size}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == size


def test_base_models_are_kept_in_the_home_that_all_share():
    for name, spec in OURS.items():
        home = spec["environment"]["RATCHET_HOME"]
        assert spec["environment"]["HF_HOME"] == f"{home}/huggingface", name
        assert f"home:{home}" in spec["volumes"]


def test_what_a_reader_fills_with_secrets_is_kept_out_of_git():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    docs = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    for name in ("deploy/compose/.env", "deploy/compose/ray_token", "my-secrets.yaml"):
        assert name in ignored
        assert name.rpartition("/")[2] in docs


def test_the_users_of_mlflow_outlive_its_container():
    (users,) = re.findall(r"sqlite:///(\S+)", COMPOSE["configs"]["mlflow_auth"]["content"])
    folders = [volume.partition(":")[2] for volume in SERVICES["mlflow"]["volumes"]]
    assert [folder for folder in folders if users.startswith(f"{folder}/")]
    image = (DEPLOY / "docker" / "mlflow.Dockerfile").read_text(encoding="utf-8")
    assert "WORKDIR /home/mlflow" in image  # a new volume takes the owner from the image


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


@pytest.mark.parametrize(
    ("password", "wanted"),
    [
        ("POSTGRES_PASSWORD", {"api", "controller", "postgres"}),
        ("MLFLOW_DATABASE_PASSWORD", {"mlflow", "postgres"}),
    ],
)
def test_the_password_of_a_database_is_in_no_command_and_only_where_it_is_needed(password, wanted):
    holders = {
        name
        for name, spec in SERVICES.items()
        if f"${{{password}:?" in str(spec.get("environment"))
    }
    assert holders == wanted
    assert all("PASSWORD" not in str(spec.get("command")) for spec in SERVICES.values())
    known = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert known.startswith("postgresql+psycopg://mlflow:")
    assert known.endswith("@postgres:5432/mlflow")


def test_the_database_is_ready_once_it_listens_to_others():
    (program, *options) = SERVICES["postgres"]["healthcheck"]["test"][1:]
    assert program == "pg_isready"
    assert "--host=127.0.0.1" in options


@pytest.mark.slow
def test_mlflow_reaches_its_own_database_and_no_other(tmp_path):
    script = tmp_path / "databases.sql"
    script.write_text(COMPOSE["configs"]["postgres_databases"]["content"], encoding="utf-8")
    psql = shutil.which("psql")
    assert psql, "psql is not installed: install the package postgresql-client (15 or newer)"
    with postgres_server() as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE ratchet")
        environment = os.environ | {"MLFLOW_DATABASE_PASSWORD": "it's-a-secret"}
        command = [psql, "-v", "ON_ERROR_STOP=1", "--no-psqlrc", server.url("ratchet")]
        subprocess.run([*command, "-f", str(script)], env=environment, check=True, timeout=240)
        place = f"host=127.0.0.1 port={server.port} user=mlflow password='it\\'s-a-secret' dbname="
        with psycopg.connect(f"{place}mlflow") as connection:
            connection.execute("CREATE TABLE runs (id int)")
        for other in ("ratchet", "postgres"):
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(f"{place}{other}")


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
        subprocess.run([sys.executable, "-c", program], check=True, timeout=240)
    assert "ratchet" in [found["Name"] for found in s3.list_buckets()["Buckets"]]
