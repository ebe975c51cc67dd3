"""The GPU box: choose its image, launch it, reach it over SSH, run jobs on it, and copy files to and from it."""
