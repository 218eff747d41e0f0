"""A real S3 server in a process of its own, and the variables that lead a client to it."""

import contextlib
import os
import subprocess
import sys
import threading

from tests.waiting import free_port, wait_for_url

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "ratchet-test",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_MAX_ATTEMPTS": "3",
}


@contextlib.contextmanager
def s3_server(log):
    """Start a server, give its address, end it.

    Args:
        log: File for what it says.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.s3_server", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        wait_for_url(f"{endpoint}/moto-api/data.json", process)
        yield endpoint
    finally:
        process.terminate()
        process.wait(timeout=10)


def serve(port):
    """Moto's S3, one request at a time: it looks and writes in two steps, which S3 does in one."""
    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    os.environ["MOTO_PORT"] = str(port)
    app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def answer(environ, start_response):
        with turn:
            return list(app(environ, start_response))

    run_simple("127.0.0.1", port, answer, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
