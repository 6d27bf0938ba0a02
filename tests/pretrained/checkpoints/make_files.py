"""Makes the files in `files/` beside it: `python make_files.py FOLDER`, with torch 2.14, safetensors 0.8 and numpy 2.4.

No test runs it, as it needs PyTorch. `test_torch_made_files.py` says what the files must give.
"""

import argparse
import collections
import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


def ramp(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.arange(math.prod(shape), dtype=torch.float64) / 4 - 3).to(dtype).reshape(shape)


def of_every_type() -> dict[str, torch.Tensor]:
    base = ramp(4, 6)
    return collections.OrderedDict(
        {
            "conv.weight": ramp(2, 3, 1, 1),
            "half": ramp(5, dtype=torch.float16),
            "bf16": ramp(5, dtype=torch.bfloat16),
            "double": ramp(3, dtype=torch.float64),
            "long": torch.arange(-2, 3),
            "int": torch.arange(-2, 3, dtype=torch.int32),
            "short": torch.arange(-2, 3, dtype=torch.int16),
            "char": torch.arange(-2, 3, dtype=torch.int8),
            "byte": torch.arange(5, dtype=torch.uint8),
            "bool": torch.tensor([True, False, True]),
            "transposed": base.t(),
            "part": base[1:3, 2:5],
            "row": base[2],
            "whole": base,
            "channels_last": ramp(1, 2, 2, 3).to(memory_format=torch.channels_last),
            "parameter": torch.nn.Parameter(ramp(2, 2)),
            "scalar": torch.tensor(7),
            "empty": torch.zeros(0, 3),
        }
    )


def training_state() -> dict[str, object]:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(2, 1, 1, 1)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 10])
    network[0].weight.data = ramp(2, 1, 1, 1)
    network[0].bias.data = ramp(2)
    return {
        "epoch": 29,
        "state_dict": torch.nn.DataParallel(network).state_dict(),
        "recalls": {1: np.float64(0.5), 5: np.float32(0.75)},
        "best_score": np.float64(0.5),
        "optimizer": optimizer.state_dict(),
        "parallel": True,
        "schedule": schedule.state_dict(),  # with a collections.Counter
        "device": torch.device("cuda:0"),
        "dtype": torch.float16,
        "args": argparse.Namespace(arch="vgg16", lr=0.1),
    }


class Hyper(dict):
    """Stands for what Lightning keeps hyper-parameters in."""


class Program(torch.nn.Module):
    """Keeps its network as `model`, as Lightning's programs do."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Linear(2, 1)
        self.model.weight.data = ramp(1, 2)
        self.model.bias.data = ramp(1)


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for zipped, name in ((True, "zip"), (False, "legacy")):
        for value, path in ((of_every_type(), f"dtypes_{name}.pth"), (training_state(), f"training_{name}.pth.tar")):
            torch.save(value, folder / path, _use_new_zipfile_serialization=zipped)
    hyper = Hyper(lr=0.1)
    hyper.note = "a"
    lightning = {
        "epoch": 3,
        "global_step": 10,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": Program().state_dict(),
        "loops": {"fit_loop": {}},
        "hparams_name": "kwargs",
        "hyper_parameters": hyper,
    }
    torch.save(lightning, folder / "lightning.ckpt")
    torch.serialization.set_crc32_options(False)
    torch.save({"w": ramp(2, 3)}, folder / "no_checksums.pth")
    tensors = {name: tensor.contiguous().clone() for name, tensor in of_every_type().items() if name != "parameter"}
    save_file(tensors, folder / "dtypes.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
