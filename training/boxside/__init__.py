"""The programs that run on the box without torch: job runner, data and wheels, idle watchdog, clean-up."""
