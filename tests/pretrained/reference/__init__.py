"""The published networks written a second time, in numpy alone, from what is known of their files and their formulas.

Nothing here imports the package under test: `weights` makes state dicts with the names and shapes of the published
files and random values, `networks` runs them, `checkpoints` puts both together for each kind of file, and `torch_files`
and `matlab_files_of_networks` write them as PyTorch, safetensors and MatConvNet do.
"""
