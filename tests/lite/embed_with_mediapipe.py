"""Runs in an environment with MediaPipe: writes what its ImageEmbedder gives, and what it reads of the metadata.

python embed_with_mediapipe.py FOLDER
"""

import json
import sys
from pathlib import Path

import mediapipe
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.metadata import schema_py_generated as schema
from mediapipe.tasks.python import BaseOptions, vision


def embed(model: Path, images: list[Path]) -> tuple[np.ndarray, set[str]]:
    """Embeddings as they come out of the model, and the names of the output that they belong to."""
    options = vision.ImageEmbedderOptions(BaseOptions(str(model)), l2_normalize=False, quantize=False)
    with vision.ImageEmbedder.create_from_options(options) as embedder:
        results = [embedder.embed(mediapipe.Image.create_from_file(str(image))) for image in images]
    (heads,) = zip(*(result.embeddings for result in results), strict=True)
    return np.stack([head.embedding for head in heads]), {head.head_name for head in heads}


def read_metadata(model: Path) -> dict:
    """Some of the metadata, read by the schema that MediaPipe carries."""
    file = schema.ModelT.InitFromPackedBuf(model.read_bytes())
    (index,) = (entry.buffer for entry in file.metadata if entry.name == b"TFLITE_METADATA")
    metadata = metadata_schema.ModelMetadataT.InitFromPackedBuf(file.buffers[index].data.tobytes())
    (subgraph,) = metadata.subgraphMetadata
    (image,), (descriptor,) = subgraph.inputTensorMetadata, subgraph.outputTensorMetadata
    return {
        "description": metadata.description.decode(),
        "image": type(image.content.contentProperties).__name__,
        "rgb": image.content.contentProperties.colorSpace == metadata_schema.ColorSpaceType.RGB,
        "normalization": [[*unit.options.mean, *unit.options.std] for unit in image.processUnits or ()],
        "range": [*image.stats.min, *image.stats.max],
        "descriptor": type(descriptor.content.contentProperties).__name__,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = {}
    for path in sorted(folder.glob("*.tflite")):
        embeddings, names = embed(path, sorted(folder.glob("*.png")))
        np.save(path.with_suffix(".mediapipe.npy"), embeddings)
        found[path.stem] = {"outputs": sorted(map(str, names)), **read_metadata(path)}
    (folder / "metadata.json").write_text(json.dumps(found, default=float))
