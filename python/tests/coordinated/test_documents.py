"""Every code block of the documents is run, in order, in one folder, with one daemon; what it prints is compared.

A Python block that begins with `# NAME.py` is that file. It has to be importable, or to pass if it has tests. Other
Python blocks are programs: the lines `#> ...` in them are what they print. The lines of `sh` blocks are run, those that
end in `&` until the end of the document; what installs the package or starts the daemon is left out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from coordinated.testing import Daemon

PYTHON = Path(__file__).parents[2]
# Other shell lines of the README of the whole project are for Rust.
DOCUMENTS = {
    PYTHON / "README.md": {"python", "sh"},
    PYTHON.parent / "docs" / "python.md": {"python", "sh"},
    PYTHON.parent / "README.md": {"python"},
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DONE_BY_THE_TEST = re.compile(r"pip install .*|coordinated( &)?")
PATIENCE_S = 120


class Reader:
    """Does what a document says."""

    def __init__(self, folder: Path, daemon: Daemon) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "COORDINATED_SERVER": daemon.server,
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
        }
        self.background: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, number: int, code: str) -> None:
        named = re.match(r"# (\w+)\.py\n", code)
        module = named[1] if named else f"block_{number}"
        (self.folder / f"{module}.py").write_text(code)
        if module.startswith("test_"):
            self.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{module}.py")
        elif not named:
            expected = re.findall(r"^\s*#> ?(.*)$", code, re.MULTILINE)
            assert self.run(sys.executable, f"{module}.py").splitlines() == expected, code
        elif module != "produce":  # the shell runs that one
            self.run(sys.executable, "-c", f"import {module}")

    def shell(self, lines: str) -> None:
        programs = {"python": [sys.executable], "coordinated-worker": [sys.executable, "-m", "coordinated.worker"]}
        for line in lines.splitlines():
            if DONE_BY_THE_TEST.fullmatch(line):
                continue
            words = shlex.split(line.removesuffix(" &"))
            command = [*programs.get(words[0], words[:1]), *words[1:]]
            if line.endswith(" &"):
                self.background.append(subprocess.Popen(command, cwd=self.folder, env=self.environment))
            else:
                self.run(*command)

    def close(self) -> None:
        for process in self.background:
            process.terminate()
        for process in self.background:
            process.wait(PATIENCE_S)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_code_of_a_document_does_what_it_says(document: Path, tmp_path: Path) -> None:
    blocks = [block for block in BLOCK.findall(document.read_text()) if block[0] in DOCUMENTS[document]]
    assert blocks
    with Daemon() as daemon:
        reader = Reader(tmp_path, daemon)
        try:
            for number, (language, text) in enumerate(blocks):
                if language == "python":
                    reader.python(number, text)
                else:
                    reader.shell(text)
        finally:
            reader.close()
