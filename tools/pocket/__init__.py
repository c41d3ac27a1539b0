"""How the embedded model is made: corpus, tokenizer, training, score card. Start at `recipe`."""
