"""What stands on imitation: SFT's parts, conditioned training, Quark and expert iteration."""
