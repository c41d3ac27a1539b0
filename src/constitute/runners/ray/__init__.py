"""The data stages on a Ray cluster: `run` on the driver, `worker` with an engine each, one `writer`."""
