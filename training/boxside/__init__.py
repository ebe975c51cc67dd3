"""What runs on the box without torch: the job's runner, its data and wheels, the watchdog, and cleaning up."""
