"""Who calls, with which rights, what a call takes (permissions.py), and whether that suffices (enforce.py)."""
