"""What the tests of workflows share."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quick(converter_here: None) -> None:
    """Everything here converts."""
