"""What the command line accepts: one module per command, and how options are declared."""
