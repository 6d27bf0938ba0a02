"""Trained weights in files of PyTorch, safetensors, numpy and MatConvNet, read as plain data without any of these."""

from tfplaces.pretrained.checkpoints.checkpoint import Checkpoint, TensorEntry
from tfplaces.pretrained.checkpoints.recognition import open_checkpoint

__all__ = ["Checkpoint", "TensorEntry", "open_checkpoint"]
