import socket

import pytest

from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.tuning.search.ray_watch import RayWatch


@pytest.fixture
def server():
    """A port that answers until it is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def watch_over(server, patience_seconds):
    return RayWatch({"head (GCS)": server.getsockname()}, patience_seconds)


def test_a_ray_that_answers_is_there_and_heard(server):
    watch = watch_over(server, patience_seconds=0.0)
    before = watch.heard
    assert watch.check()
    assert watch.heard > before
    watch.make_sure()


def test_a_ray_that_is_away_is_lost_once_patience_ends(server):
    patient, short, none = (watch_over(server, seconds) for seconds in (60.0, 0.3, 0.0))
    server.close()
    assert not patient.check()
    with pytest.raises(RatchetError, match=r"its head \(GCS\) no longer answers.*goes on"):
        none.check()
    with pytest.raises(RatchetError, match="Ray is lost"):
        short.make_sure()


def test_what_ends_after_the_search_was_left_is_not_blamed_on_a_trial(server):
    watch = watch_over(server, 60.0)
    watch.end()
    with pytest.raises(RatchetError, match="the search was left"):
        watch.make_sure()
