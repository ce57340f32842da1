"""Puts the daemon into the wheel, if COORDINATED_BINARY names it.

With it the wheel is for one platform, and `coordinated` is on the PATH after `pip install`. Without it the wheel is for
every platform, and has only Python. Both are uploaded under one version; pip takes the platform's where there is one.
"""

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DaemonBuildHook(BuildHookInterface[Any]):
    """Adds the daemon to the scripts of a wheel. COORDINATED_PLATFORM overrides the platform tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Is called by hatchling before it builds."""
        binary = os.environ.get("COORDINATED_BINARY")
        if self.target_name != "wheel" or version == "editable" or not binary:
            return
        path = Path(binary).resolve()
        # hatchling itself says nothing about a file that is missing.
        if not path.is_file() or not os.access(path, os.X_OK):
            raise FileNotFoundError(f"COORDINATED_BINARY: {path} is not an executable file")
        platform = os.environ.get("COORDINATED_PLATFORM") or sysconfig.get_platform()
        build_data["shared_scripts"] = {str(path): "coordinated"}
        build_data["tag"] = f"py3-none-{platform.replace('-', '_').replace('.', '_')}"
        build_data["pure_python"] = False
