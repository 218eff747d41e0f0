import json
import shlex
import sys

import httpx
import pytest
from pydantic import SecretStr

from ratchet.service.control.launcher import Attempt, LauncherError, auth_token, driver_entrypoint
from ratchet.service.control.ray_jobs import RayJobs
from ratchet.service.driver.job_folder import JobFolder


@pytest.fixture
def attempt(tmp_path):
    folder = JobFolder(tmp_path / "jobs" / "it's; rm -rf $HOME")
    return Attempt("ftjob-1", 3, folder, num_cpus=1.0)


def ray_that(answer):
    """Ray's side of the wire, and what it was asked."""
    asked = []

    def respond(request):
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return RayJobs("http://ray", SecretStr("a-token"), httpx.MockTransport(respond)), asked


def test_a_driver_is_submitted_once_by_an_entrypoint_of_our_own(attempt):
    ray, asked = ray_that(httpx.Response(200, json={"submission_id": "ftjob-1-3"}))
    ray.submit(attempt)
    (request,) = asked
    assert (request.method, request.url.path) == ("POST", "/api/jobs/")
    assert request.headers["authorization"] == "Bearer a-token"
    body = json.loads(request.content)
    assert body["submission_id"] == "ftjob-1-3"
    assert body["entrypoint_num_cpus"] == 1.0
    assert "entrypoint_num_gpus" not in body
    assert "runtime_env" not in body
    words = shlex.split(body["entrypoint"])
    place = [str(attempt.folder.path), "3"]
    command = [sys.executable, "-P", "-m", "ratchet.service.driver"]
    assert words == ["exec", *command, *place, "--with-parent"]
    assert body["entrypoint"] == driver_entrypoint(attempt)


def test_one_that_ray_has_already_is_left_as_it_is(attempt):
    text = "ValueError: Job with submission_id ftjob-1-3 already exists. Please use another"
    ray_that(httpx.Response(500, text=text))[0].submit(attempt)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, text="Traceback: no agent"),
        httpx.Response(401, text="no"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("hangs"),
    ],
)
def test_a_submission_that_ray_did_not_take_is_told_without_the_token(attempt, answer):
    with pytest.raises(LauncherError) as caught:
        ray_that(answer)[0].submit(attempt)
    assert "a-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "standing"),
    [
        (httpx.Response(200, json={"status": "PENDING"}), "running"),
        (httpx.Response(200, json={"status": "RUNNING"}), "running"),
        (httpx.Response(200, json={"status": "STOPPED"}), "ended"),
        (httpx.Response(200, json={"status": "FAILED"}), "ended"),
        (httpx.Response(200, json={"status": "SUCCEEDED"}), "ended"),
        (httpx.Response(404, text="Job ftjob-1-3 does not exist"), "gone"),
        (httpx.Response(500, text="Traceback"), "unknown"),
        (httpx.Response(200, text="<html>another server</html>"), "unknown"),
        (httpx.Response(200, json=["?"]), "unknown"),
        (httpx.Response(403, text="no"), "unknown"),
        (httpx.ConnectError("refused"), "unknown"),
    ],
)
def test_what_ray_says_is_a_hint(attempt, answer, standing):
    assert ray_that(answer)[0].look(attempt) == standing


@pytest.mark.parametrize("answer", [httpx.Response(404), httpx.ConnectError("refused")])
def test_stopping_what_ray_has_forgotten_is_no_error(attempt, answer):
    attempt.folder.path.mkdir(parents=True)
    ray, asked = ray_that(answer)
    ray.stop(attempt)
    assert asked[0].url.path == "/api/jobs/ftjob-1-3/stop"


def test_the_token_is_found_where_ray_looks_for_it(tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("from-home\n")
    named = tmp_path / "named"
    named.write_text("from-file\n")
    assert auth_token({}, tmp_path) == "from-home"
    assert auth_token({"RAY_AUTH_TOKEN_PATH": str(named)}, tmp_path) == "from-file"
    assert auth_token({"RAY_AUTH_TOKEN": "given"}, tmp_path) == "given"
    assert auth_token({"RAY_AUTH_TOKEN": "given", "RAY_AUTH_MODE": "disabled"}, tmp_path) is None
    assert auth_token({}, named.parent / "nowhere") is None
