"""ONNX graphs built from PyTorch checkpoints, once, when weights are fetched; without PyTorch."""
