"""NVIDIA GPUs: what their tools read, take and write. Backends, runners and reports share it.

It starts no process.
"""
