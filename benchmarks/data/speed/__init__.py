"""Our data stages against raw vLLM, plain HTTP clients, distilabel and DataDesigner."""
