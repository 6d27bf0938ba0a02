"""Place-recognition networks: the backbones, and PlaceNet that is built from them."""

from tfplaces.models.backbones import BACKBONES, Backbone
from tfplaces.models.outlining import outline
from tfplaces.models.place_net import PlaceNet

__all__ = ["BACKBONES", "Backbone", "PlaceNet", "outline"]
