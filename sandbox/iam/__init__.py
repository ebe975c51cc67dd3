"""Who calls, with which rights, and whether that suffices. authorize.py, a floor up, says what each call takes."""
