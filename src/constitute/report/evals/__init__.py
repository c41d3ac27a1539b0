"""Pages of evals: a set with every policy's answers (`sets`), and a comparison of policies (`comparison`)."""
