"""The engines behind a layer's product, all held to the reference in `imcsim.functional`."""
