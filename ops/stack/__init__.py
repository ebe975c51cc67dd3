"""The stack as a whole: what has to be right before anything else can work."""
