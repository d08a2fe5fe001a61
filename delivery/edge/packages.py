"""ONNX Runtime for Node and for browsers, from npm: locked with hashes, and none of the packages' own scripts is run."""

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import replace_directory
from pipeline.errors import StageError

LOCKED = ("package.json", "package-lock.json", ".npmrc")
HOME = Path(__file__).parent
WEB = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PATIENCE = 900  # seconds for npm


@dataclass(frozen=True)
class Runtimes:
    """Where the two runtimes are, and Node; or in words why they are not there."""

    folder: Path = Path()
    node: str = ""
    absent: str = ""

    @property
    def web(self) -> Path:
        """The files of the browser's runtime."""
        return self.folder / "web"

    @property
    def modules(self) -> Path:
        """The node_modules/ that `import "onnxruntime-node"` needs on this system."""
        return self.folder / "node_modules"


def fetch(cache: Path) -> Runtimes:
    """The runtimes in a folder of `cache`, installed unless they are there.

    Raises StageError where npm fails, or has no build for this system.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        missing = " and ".join(name for name, found in (("node", node), ("npm", npm)) if not found)
        return Runtimes(absent=f"{missing} {'is' if node or npm else 'are'} not on this machine")
    digest = hashlib.sha256(b"".join((HOME / name).read_bytes() for name in LOCKED)).hexdigest()
    platform = _said([node, "-p", "process.platform + '-' + process.arch"])
    folder = cache / f"runtimes-{platform}-{digest[:12]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".runtimes-") as work:
            _install(npm, Path(work) / "all")
            _keep(Path(work) / "all" / "node_modules", platform.replace("-", "/"), Path(work) / "kept")
            replace_directory(Path(work) / "kept", folder)
    return Runtimes(folder, node)


def _install(npm: str, folder: Path) -> None:
    folder.mkdir()
    for name in LOCKED:
        shutil.copyfile(HOME / name, folder / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line.lower()), "it said nothing")
        raise StageError(f"npm could not install ONNX Runtime: {said.strip()}", "see that npm's registry is in reach")


def _keep(modules: Path, platform: str, folder: Path) -> None:
    """Copy what is needed of some 440 MB: all systems' builds, and the browser's in a dozen forms."""
    node, common = modules / "onnxruntime-node", modules / "onnxruntime-common"
    binaries = [path for path in node.glob(f"bin/*/{platform}/*") if path.is_file()]
    if not binaries:
        raise StageError(f"onnxruntime-node has no build for {platform}", "make the folder on another system")
    shared = [path for path in (common / "dist").rglob("*") if path.name == "package.json" or path.suffix == ".js"]
    files = [*binaries, *(node / "dist").glob("*.js"), node / "package.json", *shared, common / "package.json"]
    copies = {path: folder / "node_modules" / path.relative_to(modules) for path in files}
    copies |= {modules / "onnxruntime-web" / "dist" / name: folder / "web" / name for name in WEB}
    for path, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
