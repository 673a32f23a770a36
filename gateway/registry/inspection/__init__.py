"""What is read out of a plugin's code without running it; each file works alone, in a cell that sees nothing else."""
