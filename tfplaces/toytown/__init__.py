"""The drawing of `toytown`, a generated town to learn and to test place recognition without downloading anything.

`tfplaces.datasets.toytown` makes a data set of it.
"""

from tfplaces.toytown.town import SPLITS
from tfplaces.toytown.view import render

__all__ = ["SPLITS", "render"]
