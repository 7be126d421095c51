"""What the words of the command line do; ``grader.cli`` only reads them."""
