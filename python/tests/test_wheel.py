"""The wheel in a fresh environment, and the README's ten lines with it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, Process


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has nothing but the wheel."""
    place = tmp_path_factory.mktemp("fresh")
    wheel = os.environ.get("ASAP_WHEEL")
    assert wheel, "ASAP_WHEEL names no wheel: run make python-test"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    subprocess.run([str(place / "bin" / "pip"), "--quiet", "install", "--no-index", wheel], check=True)
    return str(place / "bin" / "python")


def test_the_wheel_carries_its_library(python: str) -> None:
    told = subprocess.run(
        [python, "-c", "import asap; print(asap.__file__, asap.version()); print(open('/proc/self/maps').read())"],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
    ).stdout
    file, version = told.splitlines()[0].split()
    assert str(Path(file).parent / "libasap.so") in told
    assert f'version = "{version}"' in (ROOT / "Cargo.toml").read_text()


def test_the_ten_lines_of_the_readme_go_on_when_a_server_is_killed(python: str, tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().split("## Python in ten lines")[1].split("\n## ")[0]
    server, client = re.findall(r"```python\n(.*?)```", section, re.S)
    (tmp_path / "server.py").write_text(server)
    (tmp_path / "client.py").write_text(client)
    assert len(server.splitlines()) <= 10 and len(client.splitlines()) <= 10

    processes = {}
    for _ in range(2):
        process = Process(python, str(tmp_path / "server.py"))
        processes[process.line().split()[1]] = process
    talker = Process(python, str(tmp_path / "client.py"))
    try:
        numbers = []
        killed = ""
        for line in iter(talker.line, ""):
            element, number = line.split(": ")
            numbers.append(int(number))
            if numbers[-1] == 5:
                killed = element
                processes[element].kill()
                began = time.monotonic()
            elif killed and element != killed:
                print(f"{line} comes {(time.monotonic() - began) * 1000:.0f} ms after the kill")
                break
            assert len(numbers) < 10
        assert killed and numbers == list(range(1, len(numbers) + 1))
    finally:
        for process in [talker, *processes.values()]:
            process.end()
