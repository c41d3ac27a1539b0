"""What is wrong or doubtful in a constitution file. Start at `findings`; `model` asks a model."""
