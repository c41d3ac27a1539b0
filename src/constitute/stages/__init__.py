"""The data stages as pure async functions: no file, socket, clock or terminal, only `sample` and `rng`."""
