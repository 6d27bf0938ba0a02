"""Runs in an environment with one TFLite runtime and numpy: writes the descriptors that it gives.

python describe_with_runtime.py MODEL IMAGES.npy DESCRIPTORS.npy
"""

import sys

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter

if __name__ == "__main__":
    model, images, result = sys.argv[1:]
    interpreter = Interpreter(model)
    interpreter.allocate_tensors()
    (image,), (descriptor,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for pixels in np.load(images):
        interpreter.set_tensor(image["index"], pixels[None].astype(image["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(descriptor["index"])[0])
    np.save(result, np.stack(found))
