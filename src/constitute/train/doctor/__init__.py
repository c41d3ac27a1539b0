"""What goes wrong in a PPO run, in words. Start at `diagnose`."""
