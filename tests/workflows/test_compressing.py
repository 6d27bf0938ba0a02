"""From file to file: what the plan and the recipe come to in the file, and what is refused with nothing written."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from tfplaces.common.errors import UserError
from tfplaces.compression import load_compressed, places_statistics
from tfplaces.models import PlaceNet
from tfplaces.version import __version__
from tfplaces.workflows.compressing import TuningPlan, compress_file


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("network") / "net.keras")
    keras.utils.set_random_seed(0)
    PlaceNet("squeezenet", clusters=3, input_size=(48, 64), cut="fire2").save(path)
    return path


def test_without_a_plan_nothing_is_trained(network: str, tmp_path: Path) -> None:
    output = str(tmp_path / "m.places")
    compressed = compress_file(network, output, {"bits": 4, "sparsity": 0.3})
    assert compressed.provenance == {"bits": 4, "sparsity": 0.3}
    assert compressed.provenance.items() <= load_compressed(output).provenance.items()
    assert compressed.pruned == pytest.approx(places_statistics(output).total.pruned)
    assert [path.name for path in tmp_path.iterdir()] == ["m.places"]


def test_a_plan_is_told_of_in_the_file_and_its_state_goes(network: str, tmp_path: Path) -> None:
    output = str(tmp_path / "m.places")
    plan = TuningPlan("toytown?places=4", "distill", learning_rate=1e-3)
    compress_file(network, output, {"bits": 3}, plan, seed=2)
    assert load_compressed(output).provenance == {
        "bits": 3, "dataset": "toytown?places=4", "loss": "distill", "epochs": 1, "learning_rate": 1e-3, "seed": 2,
        "tfplaces": __version__,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["m.places"]


@pytest.mark.parametrize(
    "recipe, plan, message",
    [
        ({"bits": 9}, TuningPlan("toytown?places=4"), "bits"),
        ({"bits": 4}, TuningPlan("folder:no"), "folder:no"),
        ({"layers": "nothing*"}, TuningPlan("toytown?places=4", "distill"), "nothing*"),
    ],
)
def test_what_is_unfit_leaves_nothing(
    recipe: dict, plan: TuningPlan, message: str, network: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        compress_file(network, str(tmp_path / "m.places"), recipe, plan)
    assert message in str(error.value) and not any(tmp_path.iterdir())
