"""What every trainer shares: models, token ids, batches, processes, checkpoints, artefacts."""
