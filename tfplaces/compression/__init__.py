"""Trained pruning and weight sharing, and the `.places` file that holds the result."""

from tfplaces.coding import FileStatistics, SharedKernel, places_statistics
from tfplaces.compression.distillation import Distillation
from tfplaces.compression.finetuning import FineTuning, PrunedTraining, SharedTraining
from tfplaces.compression.kernels import Kernel, find_kernels
from tfplaces.compression.monitor import Monitor
from tfplaces.compression.places import load_compressed, load_places, save_places
from tfplaces.compression.pruning import EmptyKernelError, Pruning, prune_model
from tfplaces.compression.quantizers.kmeans import share
from tfplaces.compression.rate import compress_to_rate
from tfplaces.compression.recipe import Compressed, Recipe, compress, share_model
from tfplaces.compression.smallest_file import search
from tfplaces.compression.tfmot import import_tfmot

__all__ = [
    "Compressed",
    "Distillation",
    "EmptyKernelError",
    "FileStatistics",
    "FineTuning",
    "Kernel",
    "Monitor",
    "PrunedTraining",
    "Pruning",
    "Recipe",
    "SharedKernel",
    "SharedTraining",
    "compress",
    "compress_to_rate",
    "find_kernels",
    "import_tfmot",
    "load_compressed",
    "load_places",
    "places_statistics",
    "prune_model",
    "save_places",
    "search",
    "share",
    "share_model",
]
