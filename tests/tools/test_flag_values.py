"""What the tools read from flags, and what their help says."""

from tfplaces.models import BACKBONES
from tfplaces.tools import flag_values


def test_help_names_every_backbone_in_the_order_of_the_registry() -> None:
    assert flag_values.BACKBONES.replace(" or ", ", ").split(", ") == list(BACKBONES)
