"""KTO: learn from single answers that are desirable or not."""
