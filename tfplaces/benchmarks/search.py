"""Measures the exact search over memory-mapped descriptors beside faiss-cpu's kernels, in the same run."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfplaces.common.processors import usable_processors
from tfplaces.common.progress import progress
from tfplaces.describers.descriptor_file import reserve
from tfplaces.evaluation import nearest
from tfplaces.evaluation.memory import anonymous, peak_anonymous

K, ROUNDS = 100, 3
# Queries for which all cosines are computed in float64, plainly, and sorted.
JUDGED = 5
# Numbers held at a time: 256 MB of float32.
_BLOCK = 2**26

Found = tuple[np.ndarray, np.ndarray]


def measure_search(rows: int, dim: int, queries: int, seed: int = 0) -> list[dict[str, Any]]:
    """The 100 nearest of synthetic descriptors in a file of float16, by each search in turn, three times.

    The descriptors are drawn from the normal distribution, every hundredth is a copy of another, and the queries are
    some of them with noise.

    Args:
        rows: database images.
        dim: length of a descriptor.
        queries: how many are searched for.
        seed: gives the descriptors.

    Returns:
        for each search its name; median seconds; the median of its time over tfplaces' in the same round; the most
        anonymous memory that it takes in bytes, and the most of the whole process, descriptors of the queries
        included; the share of the images found that tfplaces finds at the same rank; how far cosines differ at most
        from tfplaces'; and the share that a plain sort of all cosines in float64 has at the same rank. Its name alone
        where it is not installed.

    Raises:
        UserError: there is no room on the disk for the descriptors.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "descriptors")
        reserve(path, 2 * rows * dim)
        database = np.memmap(path, np.float16, "r+", shape=(rows, dim))
        asked = _fill(database, queries, seed)
        database = np.memmap(path, np.float16, "r", shape=(rows, dim))
        searches = dict(SEARCHES)
        times: dict[str, list[float]] = {name: [] for name in searches}
        memory: dict[str, list[int]] = {name: [] for name in searches}
        found: dict[str, Found] = {}
        with progress(ROUNDS * len(searches), "searching", "search") as bar:
            for _ in range(ROUNDS):
                for name, search in list(searches.items()):
                    before = anonymous()
                    try:
                        with peak_anonymous() as peak:
                            start = time.perf_counter()
                            found[name] = search(asked, database, K)
                            times[name].append(time.perf_counter() - start)
                    except ImportError:
                        del searches[name]
                    memory[name] += [peak[0] - before, peak[0]]
                    bar.update()
        truth = _plain(asked[:JUDGED], database)
    ours = times["tfplaces"], found["tfplaces"]
    return [
        {
            "search": name,
            "seconds": float(np.median(times[name])),
            "ratio": float(np.median(np.array(times[name]) / ours[0])),
            "memory": max(memory[name][::2]),
            "process_memory": max(memory[name][1::2]),
            "same": float(np.mean(found[name][0] == ours[1][0])),
            "difference": float(np.max(np.abs(found[name][1] - ours[1][1]))),
            "same_as_float64": float(np.mean(found[name][0][:JUDGED] == truth)),
        }
        if name in found
        else {"search": name}
        for name in SEARCHES
    ]


def _fill(database: np.ndarray, queries: int, seed: int) -> np.ndarray:
    """Draws the descriptors of the database, and those of the queries, float32 `[queries, dim]`, which are given."""
    rng = np.random.default_rng(seed)
    rows, dim = database.shape
    step = max(1, _BLOCK // dim)
    with progress(rows, "drawing", "descriptor") as bar:
        for first in range(0, rows, step):
            block = rng.standard_normal((min(step, rows - first), dim), np.float32)
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            copies = np.arange(0, len(block) - 1, 100)
            block[copies] = block[copies + 1]
            database[first : first + step] = block
            bar.update(len(block))
    asked = database[np.sort(rng.integers(0, rows, queries))].astype(np.float32)
    return asked + rng.standard_normal(asked.shape, np.float32) * np.float32(2 / np.sqrt(dim))


def _plain(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    """The nearest by a stable sort of all cosines, each the sum of the products in float64."""
    cosines = np.empty((len(queries), len(database)))
    step = max(1, _BLOCK // 8 // database.shape[1])
    for first in range(0, len(database), step):
        block = database[first : first + step].astype(np.float64)
        lengths = np.sqrt(np.sum(block**2, axis=1))
        for q, query in enumerate(queries.astype(np.float64)):
            cosines[q, first : first + step] = np.sum(block * query, axis=1) / lengths / np.sqrt(np.sum(query**2))
    return np.argsort(-cosines, axis=1, kind="stable")[:, :K]


def _faiss(queries: np.ndarray, database: np.ndarray, k: int) -> Found:
    """Faiss's exact search of blocks in float32, and its heap of the best of all blocks."""
    import faiss

    faiss.omp_set_num_threads(usable_processors())
    units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    heap = faiss.ResultHeap(len(queries), min(k, len(database)), keep_max=True)
    step = max(1, _BLOCK // database.shape[1])
    for first in range(0, len(database), step):
        block = database[first : first + step].astype(np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        cosines, indices = faiss.knn(units, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(cosines, indices + first)
    heap.finalize()
    return heap.I, heap.D


SEARCHES: dict[str, Callable[[np.ndarray, np.ndarray, int], Found]] = {"tfplaces": nearest, "faiss-cpu": _faiss}
