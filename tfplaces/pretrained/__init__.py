"""Weights that others trained, brought into the networks of `tfplaces.models`."""

from tfplaces.pretrained.backbone_weights import load_backbone_weights, published_preprocessing

__all__ = ["load_backbone_weights", "published_preprocessing"]
