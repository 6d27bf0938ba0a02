"""`tfplaces-import`: what it prints, and that the rest of the chain takes what it writes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "pretrained"))

from reference.checkpoints import deep_vg

from tfplaces.opening import load_place_net
from tfplaces.tools.import_network import origin


def test_what_is_printed_and_goes_with_the_network(run, here: Path) -> None:
    """A ResNet18 with GeM: 90 tensors up to layer3, of which 15 are counters."""
    path = deep_vg("gem").write(here)
    code, out, err = run("import_network", f"--checkpoint={path}", "--output=m.keras", "--licence=MIT",
                         "--input_size=96x128")  # fmt: skip
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{path}: PyTorch zip, deep_vg (gmberton/deep-visual-geo-localization-benchmark)"
    rows = [line.split(None, 2) for line in lines[2:]]
    assert ["layer3_1_conv2", "590,080", "backbone.6.1.conv2, backbone.6.1.bn2"] in rows
    assert ["gem", "1", "aggregation.1.p"] in rows
    assert "left out: 15 tensors num_batches_tracked: batches that were counted in training" in lines
    assert any(line.startswith("note: Descriptors are L2-normalised at the end") for line in lines)
    assert lines[-1].startswith("m.keras: resnet18 up to layer3, GeM, 256 dimensions, 96x128, 2,7")

    code, _, err = run("compress", "--model=m.keras", "--output=m.places", "--bits=8")
    assert (code, err) == (0, "")
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3)).astype(np.float32)
    models = [load_place_net(name) for name in ("m.keras", "m.places")]
    before, after = (np.asarray(model(image)) for model in models)
    assert before @ after.T > 0.999
    source = models[1].config["source"]
    assert source == models[0].config["source"]
    assert (source["file"], source["kind"], source["licence"]) == ("checkpoint.pth", "deep_vg", "MIT")


def test_tensors_of_one_module_are_named_together() -> None:
    norm = ["a.bn.weight", "a.bn.bias", "a.bn.running_mean", "a.bn.running_var"]
    assert origin(["a.conv.weight", *norm, "pool.centroids", "conv1_1/0"]) == (
        "a.conv, a.bn, pool.centroids, conv1_1/0"
    )
    assert origin([]) == "nothing: a fixed value"
