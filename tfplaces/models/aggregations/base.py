"""What every aggregation has."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tfplaces.coding.places import MAX_UNITS, aggregation_title
from tfplaces.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Aggregation:
    """An aggregation with its options, which are the fields of its subclass.

    Attributes:
        kind: its key in `AGGREGATIONS`.
        fixed_size: whether its weights belong to the places of the map, so that all images have one size.
    """

    kind: ClassVar[str]
    fixed_size: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.default == 0 else 1
            if field.type == "int" and not (type(value) is int and least <= value <= MAX_UNITS):
                raise UserError(f"{self.kind}: {field.name}={value}, a whole number from {least} to {MAX_UNITS}")

    @property
    def options(self) -> dict[str, Any]:
        """The options by name."""
        return dataclasses.asdict(self)

    @property
    def title(self) -> str:
        """What people call it."""
        return aggregation_title({"aggregation": self.kind, **self.options})

    def build(self, features: Any, shape: tuple[int, int, int], norm: str) -> Any:
        """Connects its layers.

        Args:
            features: symbolic `[batch, height, width, channels]`.
            shape: height, width and channels of the map at the size of image that the network is meant for.
            norm: the form of its L2 normalisations, a key of `tfplaces.layers.NORMS`.

        Returns:
            symbolic `[batch, dim]`, of unit length.

        Raises:
            UserError: the map is too large or too small for its options.
        """
        raise NotImplementedError

    def truncated(self, dim: int) -> Aggregation:
        """The aggregation that gives the first so many numbers of the vector, then normalised.

        Raises:
            UserError: it has no layer of which outputs could be left out, or not so many.
        """
        raise UserError(
            f"descriptor_dim={dim}: {self.title} has no linear layer whose first outputs could be kept; give the "
            "network a whitening"
        )
