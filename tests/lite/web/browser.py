"""Runs `.tflite` files in a headless Chromium, in LiteRT.js and in MediaPipe, on a GPU that is computed by software.

python browser.py MODULES FOLDER [CLIENT:ACCELERATOR[:jspi] ...]

runs every `.tflite` of FOLDER on its `image.npy`, uint8 `[height, width, 3]`, prints what its client says of it, and
compares the descriptor with LiteRT's. MODULES is a `node_modules` with @litertjs/core and @mediapipe/tasks-vision.
"""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_PAGE = Path(__file__).parent
_TYPES = {".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
_FLAGS = (
    "--headless=new", "--no-sandbox", "--no-first-run", "--disable-dev-shm-usage", "--ignore-gpu-blocklist",
    "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
# What clients say of every file.
_USUAL = ("registry", "environment", "OpenCL", "gl_context", "XNNPACK", "WebGPU-based API", "compiled_model.cc",
          "WebGPU environment", "Graph successfully", "Feedback manager")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Job:
    """A model to run on an image, in a client on an accelerator.

    Attributes:
        model, image: names of files; the image is uint8 `[height, width, 3]`, its bytes alone.
        size: (height, width) of the image.
        client: `litert`, for LiteRT.js, or `mediapipe`.
        accelerator: `webgpu` or `wasm`; `GPU` or `CPU`.
        jspi: whether LiteRT.js may leave operators to the CPU, by an ability of WebAssembly that few browsers have.
        runs: how often it is run.
    """

    model: str
    image: str
    size: tuple[int, int]
    client: str
    accelerator: str
    jspi: bool = False
    runs: int = 1


def chromium() -> str | None:
    """The path of a Chromium, if there is one: that of the variable CHROMIUM, or one on the path."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def run_jobs(jobs: Sequence[Job], folder: Path, modules: Path, patience: float = 180) -> list[dict[str, Any]]:
    """Runs jobs one after the other, each in a page of its own.

    Args:
        jobs: what to run.
        folder: where their files are.
        modules: a `node_modules` with the two clients.
        patience: seconds to wait for each.

    Returns:
        of each job `descriptor` and `milliseconds`, or `error`; `log`, the lines that the client wrote; of LiteRT.js
        `fullyAccelerated` as well.
    """
    browser = chromium()
    if browser is None:
        raise RuntimeError("there is no Chromium; CHROMIUM=PATH names one")
    waiting, results = list(jobs), queue.Queue[dict[str, Any]]()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(waiting, results, folder, modules))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [browser, *_FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/page/page.html"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return [results.get(timeout=patience) for _ in jobs]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            server.shutdown()


def _handler(
    waiting: list[Job], results: queue.Queue, folder: Path, modules: Path
) -> type[http.server.BaseHTTPRequestHandler]:
    """Serves the page, the modules, the files and the jobs, and takes results."""
    roots = {"page": _PAGE, "files": folder, "modules": modules}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/job":
                self._answer(json.dumps(dataclasses.asdict(waiting.pop(0)) if waiting else None).encode())
                return
            root, _, name = self.path.partition("?")[0][1:].partition("/")
            path = roots[root] / name if root in roots else Path()
            if path.is_file():
                self._answer(path.read_bytes(), _TYPES.get(path.suffix, "application/octet-stream"))
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, data: bytes, kind: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing is logged."""

    return Handler


def said(result: dict[str, Any]) -> list[str]:
    """What a client says of this file and not of every file."""
    return [line for line in result["log"] if not any(usual in line for usual in _USUAL)]


def main(modules: str, folder: str, *clients: str) -> None:
    from tfplaces.describers.litert import LiteRTDescriber

    image = np.load(Path(folder) / "image.npy")
    image.tofile(Path(folder) / "image.rgb")
    jobs = [
        Job(path.name, "image.rgb", image.shape[:2], *parts[:2], jspi="jspi" in parts[2:], runs=3)
        for path in sorted(Path(folder).glob("*.tflite"))
        for parts in (client.split(":") for client in clients or ("litert:webgpu", "litert:wasm", "mediapipe:GPU"))
    ]
    for job, result in zip(jobs, run_jobs(jobs, Path(folder), Path(modules)), strict=True):
        line = f"{job.model} {job.client} {job.accelerator}{' jspi' * job.jspi}: "
        if "error" in result:
            line += result["error"].replace("\n", " ")[:400]
        else:
            ours = LiteRTDescriber(Path(folder) / job.model).describe(image[None])[0].astype(np.float64)
            theirs = np.array(result["descriptor"])
            cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
            whole = {True: "whole, ", False: "in part, ", None: ""}[result.get("fullyAccelerated")]
            line += f"{whole}cosine {cosine:.7f}, {min(result['milliseconds']):.0f} ms"
        print(line, flush=True)
        for more in said(result):
            print(f"    {more[:160]}".replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
