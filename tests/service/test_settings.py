import pytest
from pydantic import ValidationError

from ratchet.service.settings import Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    """No variables of ours, and a folder of the test's own."""
    import os

    for name in list(os.environ):
        if name.startswith("RATCHET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_by_default_everything_lies_below_the_home(tmp_path):
    settings = Settings()
    home = tmp_path.resolve() / ".ratchet"
    assert settings.home == home
    assert settings.database_url.get_secret_value() == f"sqlite:///{home}/ratchet.db"
    assert settings.tracking_uri == f"sqlite:///{home}/mlflow.db"
    assert settings.data_roots == (f"{home}/files",)


def test_variables_decide(monkeypatch, tmp_path):
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "h"))
    monkeypatch.setenv("RATCHET_DATA_ROOTS", "/data, s3://bucket/sets ,")
    monkeypatch.setenv("RATCHET_MAX_RUNNING_JOBS", "7")
    settings = Settings()
    assert settings.home == (tmp_path / "h").resolve()
    assert settings.database_url.get_secret_value().startswith(f"sqlite:///{settings.home}")
    assert settings.data_roots == ("/data", "s3://bucket/sets")
    assert settings.max_running_jobs == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [("API_PORT", "70000"), ("LAUNCHER", "docker"), ("LEASE_SECONDS", "0")],
)
def test_a_value_out_of_range_is_refused_with_its_name(monkeypatch, name, value):
    monkeypatch.setenv(f"RATCHET_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_nothing_changes_a_setting_and_nothing_shows_a_password(monkeypatch):
    monkeypatch.setenv("RATCHET_DATABASE_URL", "postgresql://u:hush-hush@h/n")
    monkeypatch.setenv("RATCHET_TRACKING_URI", "postgresql://u:hush-hush@h/mlflow")
    settings = Settings()
    assert "hush" not in repr(settings) + str(settings)
    with pytest.raises(ValidationError, match="frozen"):
        settings.api_port = 1
    monkeypatch.setenv("RATCHET_API_PORT", "hush-hush")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "hush" not in str(refused.value)
