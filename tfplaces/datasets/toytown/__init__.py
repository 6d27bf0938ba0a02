"""`toytown`: a generated town to learn and to test place recognition without downloading anything."""

from tfplaces.datasets.toytown.contact_sheet import contact_sheet
from tfplaces.datasets.toytown.dataset import toytown

__all__ = ["contact_sheet", "toytown"]
