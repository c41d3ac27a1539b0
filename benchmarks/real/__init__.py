"""Benchmarks on SmolLM2-135M-Instruct, a real model (`constitute fetch`)."""
