"""What `tfplaces-convert` prints of a file that it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfplaces.report.tables import text_table


def conversion_text(path: str, facts: Mapping[str, Any], layers: Sequence[Any]) -> str:
    """A line for each thing that is known of a TFLite file, and a table of the layers that add most error.

    Args:
        path: the file.
        facts: what `tfplaces.lite.check.file_report` gives.
        layers: what `tfplaces.lite.layer_errors` gives, the worst first; empty where it was not asked for.
    """
    return "\n".join(_lines(path, facts, layers))


def _lines(path: str, facts: Mapping[str, Any], layers: Sequence[Any]) -> Iterator[str]:
    shapes = {end: "x".join(map(str, facts[end]["shape"])) for end in ("input", "output")}
    yield (
        f"{path}: {facts['precision']} for {facts['target']}, {shapes['input']} {facts['input']['type']} to "
        f"{shapes['output']} {facts['output']['type']}, {facts['bytes'] / 1e6:.2f} MB"
    )
    names = (f"{count} {name}" if count > 1 else name for name, count in facts["operators"].items())
    yield f"builtin operators: {', '.join(names)}"
    kernels = facts["kernel_errors"]
    errors = {name: error for name, error in kernels.items() if error}
    yield f"kernels: {len(kernels) - len(errors)} of {len(kernels)} exactly as compressed"
    for name, error in errors.items():
        yield f"  {name} is off by {100 * error:.3g} %"
    for check in facts.get("checks", ()):
        cosine = check["cosine"]
        yield f"{check['dataset']}: drop {check['drop']:.2f}, cosine {cosine['mean']:.5f}, least {cosine['min']:.5f}"
        for name, scores in (("Keras", check["keras"]), ("TFLite", check["tflite"])):
            recall = ", ".join(f"R@{n} {value:.2f}" for n, value in scores["recall"].items())
            yield f"  {name:6} mAP {scores['map']:.2f}, {recall}"
    if "checks" in facts:
        times, memory = facts["latency_ms"], facts["memory_bytes"]
        costs = [f"{times['1']:.1f} ms an image", f"{times['2']:.1f} ms with 2 threads"]
        if facts["batch"] > 1:
            costs[0] += f" ({facts['ms_per_call']['1']:.1f} ms for {facts['batch']} in one call)"
        if memory is not None:
            costs.append(f"{memory / 1e6:.1f} MB of memory above LiteRT's own")
        yield f"largest drop {facts['drop']:.2f} points of mAP; {', '.join(costs)}"
    if layers:
        yield "error of each layer's output, and what each adds to it, in % of the output:"
        head = ["layer", "operator", "error", "added"]
        cells = [[one.layer, one.operator, f"{100 * one.error:.2f}", f"{100 * one.added:.2f}"] for one in layers]
        yield text_table(head, cells)
