import platform
import subprocess

from ratchet.pipelines.processes.module_command import module_command


def test_a_module_is_never_one_of_the_current_folder(tmp_path):
    for name in ("platform", "re"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('foreign')", encoding="utf-8")
    command = module_command("platform", "terse")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == platform.platform(terse=True)
