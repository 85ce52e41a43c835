"""hwkit: from a compressed network to the device it must live on, with proof and provenance."""

__version__ = "0.1.0"
