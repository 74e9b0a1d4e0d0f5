"""Who may import whom; STYLE's arrows as a test."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from tests.conftest import EXAMPLES, ROOT

PACKAGE = ROOT / "inference"
MODULES = sorted(PACKAGE.glob("*.py"))
# What each package of an extra may import beside the standard library.
OF_EXTRAS = {
    "formats": {"numpy", "cv2", "PIL", "nibabel", "pydicom", "highdicom"},
    "web": {"numpy", "cv2", "fastapi", "starlette", "pydantic", "uvicorn"},
    "cluster": {"cv2", "ray", "fsspec"},
}
OUTSIDE = {"numpy", "cv2", "openvino", "isal"}
HOMES = {"isal": {"archive"}, "openvino": {"model"}, "cv2": {"preprocess", "overlay"}}
LAYERS = [
    {"__main__"},
    {"cli"},
    {"batch"},
    {"report"},
    {"shards"},
    {"segmenter", "progress", "options", "cost"},
    {"session"},
    {"engine"},
    {"cases", "overlay", "pipeline"},
    {"model", "variant", "memory", "volume", "preprocess", "postprocess", "prompts"},
    {"embeddings", "model_cache", "timing", "windows"},
    {"archive", "files", "geometry", "manifest", "processor"},
    {"contract", "config", "errors", "version", "cgroups", "signals"},
]


def imports(path):
    """Yield (module, is_relative) of every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((name, node.level > 0) for name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_inference_imports_only_the_runtime_packages(path):
    for module, is_relative in imports(path):
        root = module.split(".")[0]
        if is_relative or root in sys.stdlib_module_names:
            continue
        assert root in OUTSIDE, f"{path.name} imports {module}"
        assert path.stem in HOMES.get(root, {path.stem}), f"{root} has another home"


@pytest.mark.parametrize("package", OF_EXTRAS)
def test_a_package_of_an_extra_imports_that_and_nothing_else_does(package):
    paths = sorted((PACKAGE / package).glob("*.py"))
    assert paths
    for path in paths:
        for module, is_relative in imports(path):
            root = module.split(".")[0]
            if not is_relative and root not in sys.stdlib_module_names:
                assert root in OF_EXTRAS[package], f"{path.name} imports {module}"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.stem != "__init__"], ids=lambda path: path.stem
)
def test_inference_imports_point_down(path):
    layer_of = {name: level for level, names in enumerate(LAYERS) for name in names}
    for module, is_relative in imports(path):
        if is_relative:
            assert layer_of[module] > layer_of[path.stem], f"{path.stem} imports {module}"


def test_the_command_loads_neither_training_nor_telemetry():
    code = (
        "import sys, qmedsam.cli;"
        "names = {name.split('.')[0] for name, module in sys.modules.items() if module};"
        "print(sorted(names & {'torch', 'onnx', 'training', 'openvino_telemetry', 'brevitas'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.model
def test_a_run_opens_no_socket(tmp_path):
    code = (
        "import socket, sys, threading\n"
        "def refuse(*arguments, **options): raise RuntimeError('a socket was opened')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from qmedsam.cli import main\n"
        f"status = main(['-i', {str(EXAMPLES)!r}, '-o', {str(tmp_path)!r}])\n"
        "assert threading.active_count() == 1, 'a thread is left'\n"
        "sys.exit(status)"
    )
    environment = {**os.environ, "QMEDSAM_CACHE_DIR": ""}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert len(list(tmp_path.iterdir())) == len(list(EXAMPLES.iterdir()))
