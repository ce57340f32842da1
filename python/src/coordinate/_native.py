"""Runs the program `coordinated`, which is written in Rust."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from typing import NoReturn


def run_native(arguments: list[str]) -> NoReturn:
    """Becomes `coordinated` with these arguments. Exits with a message if there is none."""
    # Beside this Python first: that is where the wheel that has it puts it.
    program = shutil.which("coordinated", path=sysconfig.get_path("scripts")) or shutil.which("coordinated")
    if program is None:
        sys.exit(
            "there is no program `coordinated` on the PATH: this wheel of the package has none for this "
            "platform, so install it from its release or build it with cargo"
        )
    sys.stdout.flush()
    os.execv(program, ["coordinated", *arguments])
