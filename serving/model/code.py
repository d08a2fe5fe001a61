"""The project's code in a bundle, imported from the bytes that the manifest covers: a folder could be changed meanwhile."""

import importlib
import sys
import threading
from collections.abc import Mapping
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

from serving.model.bundle import CODE

_LOADING = threading.Lock()


class BundleCode(MetaPathFinder, ExecutionLoader):
    """Imports the project's modules from the bundle, in preference to any others on this machine."""

    def __init__(self, files: Mapping[str, bytes]):
        self._files = files

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module's spec, or None when the bundle does not contain the module."""
        known = self.is_package(name) or self._file(name) in self._files
        return spec_from_loader(name, self) if known else None

    def is_package(self, name: str) -> bool:
        """Whether the bundle contains modules below this one."""
        return any(file.startswith(name.replace(".", "/") + "/") for file in self._files)

    def get_filename(self, name: str) -> str:
        """A file name for tracebacks."""
        return CODE + self._file(name)

    def get_source(self, name: str) -> str:
        """The module's source; a package without an __init__.py is empty."""
        return self._files.get(self._file(name), b"").decode()

    def _file(self, name: str) -> str:
        return name.replace(".", "/") + ("/__init__.py" if self.is_package(name) else ".py")


def install(files: Mapping[str, bytes]) -> None:
    """Let this process import the bundle's modules by name, as a stored model does that names its types."""
    sys.meta_path.insert(0, BundleCode(files))


def load_apart(files: Mapping[str, bytes], name: str) -> ModuleType:
    """A module of the bundle with modules of its own beside it: two bundles in one process do not see each other's code.

    Raises whatever the module's code raises. An import within a function of it does not find the bundle's modules.
    """
    roots = {file.partition("/")[0].removesuffix(".py") for file in files}

    def ours() -> list[str]:
        return [known for known in sys.modules if known.partition(".")[0] in roots]

    with _LOADING:
        others = {known: sys.modules.pop(known) for known in ours()}
        finder = BundleCode(files)
        sys.meta_path.insert(0, finder)
        try:
            return importlib.import_module(name)
        finally:
            sys.meta_path.remove(finder)
            for known in ours():
                del sys.modules[known]
            sys.modules.update(others)
