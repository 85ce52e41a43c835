"""The on-chip engine for depthwise-separable neural-ODE networks."""
