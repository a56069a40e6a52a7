"""Compute: checkpoints, quantization, span executors, the worker process."""
