"""Fixtures that tests share: photos on disk, and real data where it is at hand."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from tfplaces.common.errors import UserError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    # Keras 3 reads its variables through np.array(), about which numpy 2 warns.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="session")
def tfplaces_data() -> Path:
    """The folder of real images and weights; what uses it is skipped where there is none."""
    path = os.environ.get("TFPLACES_DATA")
    if not path:
        pytest.skip("TFPLACES_DATA is not set: no real images and weights")
    return Path(path)


@pytest.fixture(scope="session")
def converter_here() -> Iterator[None]:
    """Runs the TFLite converter in this process: one of its own takes seconds to import TensorFlow."""
    from tfplaces.lite import float_form, saved_model

    def run(arguments: Sequence[str]) -> None:
        try:
            saved_model.main(*arguments)
        except Exception as error:
            raise UserError(f"the TFLite converter failed: {error}") from None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(float_form, "run_converter", run)
        yield


@pytest.fixture
def write_photos(tmp_path: Path) -> Callable[..., Path]:
    """Writes noise images, each different, under names relative to tmp_path; gives tmp_path."""

    def write(*names: str, size: tuple[int, int] = (12, 16)) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        return tmp_path

    return write
