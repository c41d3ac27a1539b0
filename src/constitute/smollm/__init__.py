"""A small real model that the package index carries, and the loop on it: `fetch`, then `demo`."""
