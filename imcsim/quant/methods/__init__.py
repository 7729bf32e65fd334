"""Training methods: objects that make the quantizers of each layer."""
