"""A metadata hook of hatchling: the README as the package's description, where relative links lead nowhere.

pyproject.toml names this file, and `pip install` and `python -m build` run it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

sys.path.insert(0, str(Path(__file__).parent))
import links  # this file is loaded by its path, in an environment without racebench

sys.path.pop(0)


class PackageReadme(MetadataHookInterface):
    """What hatchling calls when it makes the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        repository = metadata.get("urls", {}).get("Repository", "")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": links.package_readme(Path(self.root), repository),
        }
