import pytest

from ratchet.pipelines.errors import without_credentials


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://host:9000", "https://host:9000"),
        ("https://user:pass-word@host:9000/a/b", "https://host:9000/a/b"),
        ("postgresql://user:p@ss@host/db?x=1", "postgresql://host/db?x=1"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("folder/mlflow.db", "folder/mlflow.db"),
    ],
)
def test_only_the_credentials_go(address, shown):
    assert without_credentials(address) == shown
