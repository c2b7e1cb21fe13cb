"""Puts the shared library into the wheel.

ASAP_WHEEL_LIBRARY names it: a file, or "none" for a wheel without, which uses the one that is installed. Not set: it is built by cargo from
the sources around this directory.
"""

import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LibraryHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        chosen = os.environ.get("ASAP_WHEEL_LIBRARY")
        if chosen == "none":
            return
        library = Path(chosen) if chosen else self.build()
        if not library.is_file():
            raise FileNotFoundError(f"{library} is not here: ASAP_WHEEL_LIBRARY names no library")
        self.place = tempfile.TemporaryDirectory()
        copy = Path(self.place.name) / "libasap.so"
        shutil.copy(library, copy)
        if shutil.which("strip"):
            # What debuggers want of it is many times its size.
            subprocess.run(["strip", "--strip-debug", str(copy)], check=True)
        build_data["force_include"][str(copy)] = "asap/libasap.so"
        build_data["pure_python"] = False
        # The library knows nothing of Python's versions.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def build(self) -> Path:
        sources = Path(self.root).parent
        cargo = os.environ.get("CARGO", "cargo")
        subprocess.run([cargo, "build", "--release", "--lib", "--package", "libasap"], cwd=sources, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", sources / "target"))
        return target / "release" / "libasap.so"
