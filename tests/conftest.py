import os

import pytest

pytest_plugins = ("tests.postgres",)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a two-layer encoder that knows a few dozen words."""
    from tests.tiny import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "encoder")


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory):
    """The folder of a two-layer decoder with a tokenizer trained on a few dozen words."""
    from tests.tiny_lm import save_tiny_decoder

    return save_tiny_decoder(tmp_path_factory.mktemp("tiny_lm") / "decoder")


@pytest.fixture(scope="session")
def tied_decoder(tmp_path_factory):
    """The same with one tensor for the embedding and the output layer."""
    from tests.tiny_lm import save_tiny_decoder

    return save_tiny_decoder(tmp_path_factory.mktemp("tied_lm") / "decoder", tied=True)


@pytest.fixture(scope="session")
def still_model(tiny_model, tmp_path_factory):
    """The tiny encoder without dropout, which every worker would draw anew."""
    from tests.tiny import without_dropout

    return without_dropout(tiny_model, tmp_path_factory.mktemp("still") / "encoder")
