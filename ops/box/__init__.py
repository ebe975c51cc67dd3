"""The GPU box: images, launch, access over SSH, jobs on it, and what is copied there and back."""
