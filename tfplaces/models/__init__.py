"""Place-recognition networks: backbones, aggregations, and PlaceNet that is built from them."""

from tfplaces.models.aggregations import AGGREGATIONS, Aggregation
from tfplaces.models.backbones import BACKBONES, Backbone
from tfplaces.models.outlining import outline
from tfplaces.models.place_net import PlaceNet

__all__ = ["AGGREGATIONS", "BACKBONES", "Aggregation", "Backbone", "PlaceNet", "outline"]
