"""Place-recognition networks: the backbones, and PlaceNet that is built from them."""

from tfplaces.models.backbones import BACKBONES, Backbone
from tfplaces.models.outline import outline
from tfplaces.models.place_net import PlaceNet
from tfplaces.models.weights import load_backbone_weights

__all__ = ["BACKBONES", "Backbone", "PlaceNet", "load_backbone_weights", "outline"]
