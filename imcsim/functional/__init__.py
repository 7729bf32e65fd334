"""Pure tensor functions, the float64 reference of every step; no configuration, module or global state."""
