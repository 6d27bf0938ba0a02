"""Files that PyTorch 2.14 and safetensors 0.8 wrote (`make_files.py` beside them says how), and what they must give.

Every tensor of n values is the ramp -3, -2.75, -2.5, ... in its own type, laid out in the tensor's own order; the
others are small whole numbers. So the values are known without PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfplaces.pretrained.checkpoints import open_checkpoint

FILES = Path(__file__).parent / "files"
BASE = (np.arange(24) / 4 - 3).reshape(4, 6)


def ramp(*shape: int, dtype: str = "f4") -> np.ndarray:
    return (np.arange(np.prod(shape, dtype=int)) / 4 - 3).astype(dtype).reshape(shape)


EXPECTED = {
    "conv.weight": ramp(2, 3, 1, 1),
    "half": ramp(5, dtype="f2"),
    "bf16": ramp(5),  # three bits behind the point are within bfloat16
    "double": ramp(3, dtype="f8"),
    "long": np.arange(-2, 3),
    "int": np.arange(-2, 3, dtype=np.int32),
    "short": np.arange(-2, 3, dtype=np.int16),
    "char": np.arange(-2, 3, dtype=np.int8),
    "byte": np.arange(5, dtype=np.uint8),
    "bool": np.array([True, False, True]),
    "transposed": BASE.T.astype("f4"),
    "part": BASE[1:3, 2:5].astype("f4"),
    "row": BASE[2].astype("f4"),
    "whole": BASE.astype("f4"),
    "channels_last": ramp(1, 2, 2, 3),
    "parameter": ramp(2, 2),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("dtypes_zip.pth", "PyTorch zip"), ("dtypes_legacy.pth", "PyTorch legacy"), ("dtypes.safetensors", "safetensors")],
)
def test_every_type_and_layout(name: str, kind: str) -> None:
    """Views of one storage, transposed, cut out or with channels last, are read as themselves."""
    expected = {key: value for key, value in EXPECTED.items() if kind != "safetensors" or key != "parameter"}
    with open_checkpoint(FILES / name) as checkpoint:
        assert checkpoint.format == kind
        assert checkpoint.tensors.keys() == expected.keys()
        assert checkpoint.left_out == (["__metadata__ (format 'pt')"] if kind == "safetensors" else [])
        for key, value in expected.items():
            entry = checkpoint.tensors[key]
            read = entry.read()
            assert (entry.shape, entry.dtype) == (value.shape, value.dtype) == (read.shape, read.dtype), key
            np.testing.assert_array_equal(read, value)
            read += 1 if read.dtype != bool else True  # its own: what is read next is what was in the file
            np.testing.assert_array_equal(entry.read(), value)


@pytest.mark.parametrize("name", ["training_zip.pth.tar", "training_legacy.pth.tar"])
def test_a_training_checkpoint(name: str) -> None:
    """As pytorch-NetVlad writes them, with DataParallel's prefix, numpy's numbers, an optimiser and arguments."""
    with open_checkpoint(FILES / name) as checkpoint:
        assert list(checkpoint.tensors) == [
            "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
        ]  # fmt: skip
        np.testing.assert_array_equal(checkpoint.tensors["0.weight"].read(), ramp(2, 1, 1, 1))
        assert checkpoint.tensors["1.num_batches_tracked"].read() == 1
        assert checkpoint.left_out == [
            "epoch 29",
            "recalls (dict of 2)",
            "best_score 0.5",
            "optimizer (dict of 2)",
            "parallel True",
            "schedule (dict of 8)",
            "device (torch.device)",
            "dtype (torch.float16)",
            "args (argparse.Namespace)",
        ]


def test_a_file_without_checksums() -> None:
    with open_checkpoint(FILES / "no_checksums.pth") as checkpoint:
        np.testing.assert_array_equal(checkpoint.tensors["w"].read(), ramp(2, 3))


def test_a_checkpoint_of_lightning() -> None:
    """Its hyper-parameters are of a class that nothing is made of; its network is kept as `self.model`."""
    with open_checkpoint(FILES / "lightning.ckpt") as checkpoint:
        assert {name: entry.read().tolist() for name, entry in checkpoint.tensors.items()} == {
            "weight": [[-3, -2.75]],
            "bias": [-3],
        }
        assert checkpoint.left_out[-1] == "hyper_parameters (__main__.Hyper)"
        assert checkpoint.left_out[:3] == ["epoch 3", "global_step 10", "pytorch-lightning_version '2.0.0'"]
