"""Trained pruning and weight sharing, and the `.places` file that holds the result."""

from tfplaces.compression.compress import Compressed, compress, prune_model, share_model
from tfplaces.compression.distillation import CosineDistance, distillation
from tfplaces.compression.finetuning import PrunedTraining, SharedTraining
from tfplaces.compression.kernels import Kernel, find_kernels
from tfplaces.compression.places import load_compressed, load_places, save_places

__all__ = [
    "Compressed",
    "CosineDistance",
    "Kernel",
    "PrunedTraining",
    "SharedTraining",
    "compress",
    "distillation",
    "find_kernels",
    "load_compressed",
    "load_places",
    "prune_model",
    "save_places",
    "share_model",
]
